"""Sides that are processes, and the peer of the training step."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"
CHILD = """
import os, sys, time
sys.path.insert(0, {folder!r})
from turns import serve
def begin():
    print("noise")
    os.write(1, b"noise of a library in C")
    {first}
    return (lambda steps: time.sleep(0.02 * steps)), {{"parameters": 7}}
serve(begin)
"""


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


def side(turns, first="pass"):
    return turns.Side([sys.executable, "-c", CHILD.format(folder=str(FOLDER), first=first)], {})


def test_processes_take_turns_and_what_they_print_does_not_disturb(load):
    turns = load("turns")
    with side(turns) as one, side(turns) as other:
        assert one.facts == {"parameters": 7}
        seconds = turns.in_turn(one, other, repeats=2, turn=0.05)
    for taken in seconds:
        assert len(taken) == 2
        assert all(0.02 <= each.whole < 1 and each.processor < each.whole for each in taken)


def test_settings_reach_the_process(load):
    turns = load("turns")
    first = "if os.environ['WANTED'] != 'so': raise ValueError"
    command = [sys.executable, "-c", CHILD.format(folder=str(FOLDER), first=first)]
    with turns.Side(command, {"WANTED": "so"}) as one:
        assert one.facts


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ("import no_such_library", "^no_such_library is not installed$"),
        ("raise ValueError('no room\\n at all')", "^ValueError: no room$"),
        ("os._exit(3)", "^its process ended with status 3$"),
    ],
)
def test_a_side_that_cannot_be_measured_says_why(load, first, reason):
    turns = load("turns")
    with pytest.raises(turns.SkippedError, match=reason):
        side(turns, first)


def test_the_page_marks_the_best_variant_and_names_what_was_left_out(load):
    one = {
        "ms": 50.0,
        "ours_ms": 40.0,
        "ratio": 1.25,
        "ratio_quartiles": [1.2, 1.3],
        "processor_ms": 90.0,
        "processor_ratio": 1.5,
        "torch": "2",
    }
    case = {
        "network": "resnet50",
        "image_size": 224,
        "batch_size": 256,
        "dtype": "bfloat16",
        "parameters": 25_000_000,
        "triplets": 1024,
        "optimizer": "sgd",
        "devices": 1,
        "flop": 6e12,
        "peak_flop_per_second": 7e14,
        "share_of_peak": 0.25,
        "peer_share_of_peak": 0.2,
        "device": "GPU",
        "machine": "x86_64",
        "cores": 2,
        "jax": "0",
        "load": [3.5, 1, 1],
        "variants": {"plain": one | {"ratio": 2.0}, "channels_last": one},
        "best_variant": "channels_last",
        "skipped": {"torch.compile": "no compiler"},
    }
    text = load("page_training_step").training_step([{"repeats": 3, "cases": [case]}])
    assert "| resnet50 | channels_last | 50.0 | 40.0 | **1.25** | 1.20 to 1.30 | 90.0 | 1.50 |" in text
    assert "| resnet50 | plain | 50.0 | 40.0 | 2.00 |" in text
    assert '- For resnet50, "torch.compile" was left out (no compiler).' in text
    assert "sgd; ours on 1 device; 6.00 Tflop a step" in text
    assert "700 Tflop/s in a large matrix product: ours reaches 25%" in text


@pytest.mark.parametrize("name", ["small_resnet", "mobilenet_v2", "efficientnet_lite0"])
def test_the_peers_network_is_as_large_as_ours(load, name):
    pytest.importorskip("torch")
    import jax
    from flax import nnx

    from cdml_jax.models import Spec, build

    heads = {"embedding_size": 9, "embedding_from": "projection"}
    ours = nnx.eval_shape(lambda: build(name, Spec(num_classes=7, **heads), rngs=nnx.Rngs(0)))
    theirs = load("torch_networks").network(name, classes=7, **heads)
    number = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(ours, nnx.Param)))
    assert sum(p.numel() for p in theirs.parameters()) == number


def test_the_peer_draws_pairs_by_their_weights_and_rows_alike(load):
    torch = pytest.importorskip("torch")
    labels = np.array([2, 0, 1, 0, 2, 0, 3])  # class 3 has one row: never an anchor's
    weights = np.random.default_rng(0).random((5, 5)).astype(np.float32)
    torch.manual_seed(0)
    draw = load("torch_training_step").draw_triplets
    number = 40_000
    drawn = draw(torch.as_tensor(labels), torch.as_tensor(weights), number)
    anchor, positive, negative = (rows.numpy() for rows in drawn)
    assert (labels[anchor] == labels[positive]).all()
    assert (anchor != positive).all()
    served = np.array([[i != j and i in (0, 2) and j < 4 for j in range(5)] for i in range(5)])
    expected = np.where(served, weights, 0) / weights[served].sum()
    found = np.zeros((5, 5))
    np.add.at(found, (labels[anchor], labels[negative]), 1 / number)
    np.testing.assert_allclose(found, expected, atol=0.01)
    for row in np.flatnonzero(labels == 0):
        share = np.mean(anchor[labels[anchor] == 0] == row), np.mean(positive[labels[anchor] == 0] == row)
        np.testing.assert_allclose(share, 1 / 3, atol=0.02)
