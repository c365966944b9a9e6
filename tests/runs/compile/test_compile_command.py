"""`cdml compile` with this machine's devices in the place of a slice's: what it prints, what it refuses."""

import importlib.util
import json
import re

import jax
import pytest

from cdml_jax.cli.actions import compile as action
from cdml_jax.cli.main import main
from cdml_jax.configuration.settings import changed
from cdml_jax.errors import UserError
from cdml_jax.methods import METHODS
from cdml_jax.runs.compile.compiled import DoesNotFit
from cdml_jax.runs.compile.slices import Slice


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(Slice, "devices", lambda self: jax.devices()[: self.chips])
    monkeypatch.setattr(action, "images_a_core", lambda transform, source=None: 10.0)


def compiled_for(config, *topologies, **asked):
    asked = {"classes": 6, "images": 100} | asked
    return action.compile_for(config, METHODS, action.Asked(topologies, **asked))


def test_one_slice_on_one_screen(here, config, capsys):
    (answer,) = compiled_for(config, "v5e:2x4", price=1.2)
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0] == "tiny, 16 px, float32, CDML: 6 classes, 100 training images (as given)"
    assert lines[1] == "v5e:2x4: 8 chips, 2 hosts; batch_size=16, 2 rows a chip"
    assert len(lines) < 24
    for start in (
        "Fits  ",
        "Step  ",
        "  compute ",
        "  memory ",
        "  crossing ",
        "  input ",
        "Run  ",
        "To change ",
    ):
        assert sum(line.startswith(start) for line in lines) == 1, start
    # 16 rows by two hosts with one thread of 10 images a second each: no slice is as slow.
    assert answer["plan"]["binds"] == "input"
    assert "input binds" in out
    assert "--config.data.num_threads=" in out
    assert "nothing was run" in out
    assert "measured here, on a drawn JPEG of 500 x 375 pixels, in place of the training images." in out
    assert "activations and gradients " in out
    # What is printed of the cycles adds up to the time that is printed.
    counted, rest = map(float, re.search(r"([\d.]+) M cycles, ([\d.]+) M for", out).groups())
    assert (counted + rest) / 1.5 == pytest.approx(answer["predicted"]["cycles_ms"], abs=0.01)
    # 7 steps of 0.8 s, 4 epochs, 8 chips at 1.2
    assert answer["plan"]["price"] == pytest.approx(8 * 1.2 * 7 * 4 * 0.8 / 3600, abs=0.01)
    kinds = answer["compiled"]["memory_bytes"]
    assert {"parameters", "optimiser", "counts", "batch"} <= set(kinds)
    assert answer["compiled"]["needed_bytes"] == sum(kinds.values())
    # The very collectives of the step (tests/distributed/test_collectives.py).
    assert answer["compiled"]["collectives"]["all-gather"] == {"number": 2, "bytes": 4 * 16 + 4 * 16 * 8}


def test_several_slices_make_a_table_and_json(here, config, capsys, monkeypatch):
    real = action.compiled_step

    def compiled_step(program):
        if program.mesh.size == 4:
            raise DoesNotFit(20 * 2**30, 15.75 * 2**30)
        return real(program)

    monkeypatch.setattr(action, "compiled_step", compiled_step)
    compiled_for(config, "v5e:2x4", "v5e:2x2", "v4:2x2x2")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["slice", "chips"]
    assert [line.split()[0] for line in lines[1:4]] == ["v5e:2x4", "v5e:2x2", "v4:2x2x2"]
    assert "20.0 GiB of 15.8 GiB" in lines[2]
    assert "does not fit" in lines[2]
    # What is said below the table holds for all of its slices.
    below = "\n".join(lines[4:])
    assert "docs/v5e, https://docs.cloud.google.com/tpu/docs/v4." in below
    assert "The clock of" not in below
    (v5e, _, v4) = compiled_for(config, "v5e:2x4", "v5e:2x2", "v6e:2x4")
    out = capsys.readouterr().out
    assert "The clock of v6e is not published: it is assumed." in out
    seconds = v5e["processor_seconds"] + v4["processor_seconds"]
    assert f"in {seconds:.0f} s of processor time" in out
    # The images bind all slices alike: what the chips alone take is another column.
    assert f"{v5e['predicted']['step_ms']:,.2f}" in out.splitlines()[1]
    compiled_for(config, "v5e:2x4", "v5e:2x2", json=True)
    slices = json.loads(capsys.readouterr().out)["slices"]
    assert [one["fits"] for one in slices] == [True, False]
    assert slices[0]["predicted"]["step_ms"] > 0
    with pytest.raises(UserError) as refused:
        compiled_for(config, "v5e:2x2")
    assert "batch_size=16 needs 20.0 GiB of each chip, which gives 15.8 GiB" in str(refused.value)
    assert "try --config.batch_size=8, more chips" in str(refused.value)


def test_the_largest_batch_is_looked_for(here, config, capsys, monkeypatch):
    real, batches = action.compiled_step, []

    def compiled_step(program):
        batches.append(program.config.batch_size)
        if batches[-1] > 64:
            raise DoesNotFit(20 * 2**30, 15.75 * 2**30)
        return real(program)

    monkeypatch.setattr(action, "compiled_step", compiled_step)
    (answer,) = compiled_for(config, "v5e:2x2", largest=True)
    assert batches[:2] == [16, 100]
    assert len(batches) <= 3
    assert answer["batch_size"] == max(batch for batch in batches if batch <= 64)
    assert f"the largest that fits is {answer['batch_size']}\n" in capsys.readouterr().out
    compiled_for(config, "v5e:2x2", largest=True, images=50)
    assert "the largest that fits is 48; there are no more images\n" in capsys.readouterr().out


def test_a_slice_that_does_not_suit_is_named_before_anything_is_compiled(here, config, monkeypatch):
    monkeypatch.setattr(action, "compiled_step", lambda program: pytest.fail("compiled"))
    with pytest.raises(UserError, match=r"^v5e:1x3: batch_size: 16 rows cannot be split over 3 devices"):
        compiled_for(config, "v5e:2x2", "v5e:1x3")


def test_a_price_too_small_to_print_is_not_nothing(here, config, capsys):
    compiled_for(config, "v5e:2x4", price=0.001)
    assert "; less than 0.01 at 0.001 a chip-hour" in capsys.readouterr().out
    compiled_for(config, "v5e:2x4", price=0)
    assert "; 0.00 at 0 a chip-hour" in capsys.readouterr().out


def test_a_frozen_front_is_not_prepared(here, config, capsys):
    config = changed(
        config, {"model.name": "tiny_map", "model.frozen": "1", "model.weights": "demo_upstream"}
    )
    (answer,) = compiled_for(config, "v5e:2x2")
    assert answer["plan"]["threads_needed"] == 0
    assert "nothing is decoded" in capsys.readouterr().out


def test_mistakes_are_one_line(monkeypatch, capsys):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "libtpu" else found(name, *a)
    )
    for flags, said in [
        (
            ["--topology=v5e:2x2"],
            "libtpu is not installed: pip install 'cdml_jax[train,tpu]' brings the compiler",
        ),
        (["--topology=v5e:16x32"], "'v5e:16x32': the largest slice of v5e has 256 chips"),
        (["--topology=v9:2x2"], "no chip 'v9' is known"),
        (["--topology=v5e:2x2", "--price=-1"], "--price: must be at least 0, not -1.0"),
        (["--topology=v5e:2x2", "--config.no_such_key=1"], "there is no such key"),
    ]:
        assert main(["compile", "--config=demo", *flags]) == 2
        printed = capsys.readouterr()
        assert said in printed.err
        assert printed.err.count("\n") == 1
        assert printed.out == ""
