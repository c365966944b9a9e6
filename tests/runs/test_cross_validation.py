"""Folds of training and validation images: every image judged once by a model that did not see it."""

import numpy as np
import pytest
from messages import like

from cdml_jax.cli.actions.evaluate import evaluate
from cdml_jax.cli.actions.reproduce import reproduce
from cdml_jax.configuration.settings import changed
from cdml_jax.errors import UserError
from cdml_jax.methods import METHODS
from cdml_jax.reporting import results
from cdml_jax.runs.cross_validation import cross_validate
from cdml_jax.training.program import Program


@pytest.fixture
def short(config):
    return changed(config, {"epochs": 1, "warmup_epochs": 0, "evaluate_every": 1, "sampling.composed": 0.0})


def of_classes(dataset):
    labels = np.concatenate([dataset.splits[name].labels for name in ("train", "validation")])
    return np.bincount(labels, minlength=dataset.num_classes)


def test_every_image_is_judged_once(short, dataset):
    counts = cross_validate(Program(short, dataset), "baseline", METHODS["baseline"], 0, folds=3)
    assert counts.shape == (3, 6, 6)
    np.testing.assert_array_equal(counts.sum(axis=(0, 2)), of_classes(dataset))


def test_finished_folds_are_not_trained_again(short, dataset, tmp_path, monkeypatch):
    first = cross_validate(
        Program(short, dataset), "baseline", METHODS["baseline"], 0, folds=2, folder=tmp_path
    )
    monkeypatch.setattr("cdml_jax.runs.cross_validation.fit", None)
    again = cross_validate(
        Program(short, dataset), "baseline", METHODS["baseline"], 0, folds=2, folder=tmp_path
    )
    np.testing.assert_array_equal(first, again)
    damaged = sorted(tmp_path.glob("*.npz"))[1]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 4
    damaged.write_bytes(content)
    with pytest.raises(UserError, match=like("fold1of2.npz is damaged …: delete it, and the same command")):
        cross_validate(Program(short, dataset), "baseline", METHODS["baseline"], 0, folds=2, folder=tmp_path)


def test_the_table_trains_on_both_splits_and_shows_what_the_folds_choose(
    short, dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr("cdml_jax.cli.actions.running.load_dataset", lambda config: dataset)
    changes = {"reproduce.methods": ("baseline", "cdml"), "reproduce.seeds": 1, "reproduce.folds": 2}
    short = changed(short, changes)
    report = reproduce(short, tmp_path, "cdml reproduce")
    kept = {r.method: r for r in results.load(tmp_path / "results")}
    per_class = of_classes(dataset)
    assert kept["cdml"].steps == -(-per_class.sum() // short.batch_size)
    np.testing.assert_array_equal(kept["baseline"].validation_counts.sum(axis=1), per_class)
    assert not kept["cdml"].validation_counts.any()
    assert kept["cdml"].test_counts.sum() == len(dataset.splits["test"])
    assert kept["cdml"].validation is None
    assert len(kept["cdml"].test.names) == len(dataset.splits["test"])
    with pytest.raises(UserError, match=r"reproduce\.folds\); choose test"):
        evaluate(tmp_path / "runs/cdml-seed0", "validation")
    counts = evaluate(tmp_path / "runs/cdml-seed0", "test").matrix
    np.testing.assert_array_equal(counts, kept["cdml"].test_counts)
    assert "CDML" in report.table
