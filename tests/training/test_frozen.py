"""A frozen front: computed once, the rest trained as it would be behind the front itself."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from cdml_jax.configuration import settings
from cdml_jax.configuration.checks import check
from cdml_jax.data import ArraySource
from cdml_jax.data.dividing.boxes import cut_out
from cdml_jax.data.dividing.derived import Subset
from cdml_jax.data.readers.boxes import Box, write_boxes
from cdml_jax.errors import UserError
from cdml_jax.methods import METHODS
from cdml_jax.models import Spec, build
from cdml_jax.models.weights.loading import save_weights
from cdml_jax.runs.loop import fit
from cdml_jax.system.trees import named_leaves
from cdml_jax.training.program import Program
from cdml_jax.training.state import split_model


@pytest.fixture
def frozen(config, tmp_path):
    model = build("small_resnet", Spec(num_classes=6, embedding_size=8), rngs=nnx.Rngs(3))
    _, parameters, statistics = split_model(model)
    save_weights(tmp_path / "front.safetensors", parameters, statistics, {})
    return settings.changed(
        config,
        {
            "model.name": "small_resnet",
            "model.weights": str(tmp_path / "front.safetensors"),
            "model.frozen": "2",
            "model.frozen_views": 2,
            "model.embedding_from": "features",
            "data.data_dir": str(tmp_path),
            "sampling.composed": 0.0,
            "epochs": 2,
        },
    )


def one_device(config, dataset):
    return Program(config, dataset, devices=jax.devices()[:1])


def changed(program, run):
    before, after = program.initial_state(0).parameters, run.state.parameters
    pairs = zip(named_leaves(before), named_leaves(after), strict=True)
    return {name for (name, old), (_, new) in pairs if (np.asarray(old) != np.asarray(new)).any()}


@pytest.mark.parametrize("cut", ["2", "backbone"])
def test_only_what_lies_behind_the_cut_is_trained(frozen, dataset, cut):
    program = one_device(settings.changed(frozen, {"model.frozen": cut}), dataset)
    names = changed(program, fit(program, METHODS["cdml"], 0))
    firsts = {
        name.split(".")[0] + (f".{name.split('.')[1]}" if name.startswith("blocks") else "") for name in names
    }
    assert firsts == {"heads"} | ({"blocks.2", "blocks.3"} if cut == "2" else set())


def test_it_evaluates_as_the_whole_network_does(frozen, dataset):
    program = one_device(frozen, dataset)
    run = fit(program, METHODS["cdml"], 0)
    whole = one_device(settings.changed(frozen, {"model.frozen": ""}), dataset)
    state = whole.initial_state(0)._replace(
        parameters=run.state.parameters, batch_statistics=run.state.batch_statistics
    )
    for soft in (False, True):
        behind = program.evaluate(run.state, "test", soft=soft)
        through = whole.evaluate(state, "test", soft=soft)
        np.testing.assert_allclose(behind.matrix, through.matrix, atol=1e-3)


def test_the_front_is_computed_once(frozen, dataset, monkeypatch):
    one_device(frozen, dataset)
    monkeypatch.setattr("cdml_jax.data.feeds.features._computed", None)
    again = one_device(frozen, dataset)
    assert again.feeds["train"].features.shape[:2] == (100, 3)
    assert again.feeds["test"].features.shape[:2] == (60, 1)


def test_other_heads_find_the_same_features(frozen, dataset, monkeypatch):
    first = one_device(frozen, dataset)
    monkeypatch.setattr("cdml_jax.data.feeds.features._computed", None)
    other = settings.changed(frozen, {"model.classifier": "cosine", "model.embedding_size": 5})
    again = one_device(other, dataset)
    np.testing.assert_array_equal(first.feeds["train"].features, again.feeds["train"].features)


def test_features_of_other_boxes_are_other_features(frozen, dataset, tmp_path):
    """Names, sizes and times of change of the images' files are the same for all boxes."""
    source = Subset(dataset.splits["test"], np.arange(60))
    source.stamp = lambda index: (source.name(index), 1, 1)
    test_alone = dataclasses.replace(dataset, splits={"train": source})
    names = [source.name(i) for i in range(60)]
    features = []
    for right in (1.0, 0.5):
        write_boxes(tmp_path / "boxes.csv", [(name, Box(0, 0, right, 1, 16, 16)) for name in names])
        config = settings.changed(frozen, {"data.boxes": str(tmp_path / "boxes.csv")})
        program = one_device(config, cut_out(test_alone, config.data.boxes))
        features.append(program.feeds["train"].features)
    assert (features[0] != features[1]).any()
    assert len(list((tmp_path / "features").glob("*.npy"))) == 2


def test_eight_devices_train_what_one_trains(frozen, dataset):
    runs = [fit(Program(frozen, dataset, devices=jax.devices()[:n]), METHODS["cdml"], 0) for n in (1, 8)]
    for one, eight in zip(*(jax.tree.leaves(run.state.parameters) for run in runs), strict=True):
        np.testing.assert_allclose(one, eight, rtol=2e-3, atol=2e-4)


def test_a_front_without_weights_is_refused(frozen, dataset):
    frozen = settings.changed(frozen, {"model.weights": ""})
    with pytest.raises(UserError, match=r"model\.frozen: .* set model\.weights"):
        one_device(frozen, dataset)


def test_a_mirror_image_cannot_be_made_of_features(frozen):
    with pytest.raises(UserError, match="test_time_flip"):
        check(settings.changed(frozen, {"test_time_flip": True}))


def test_flipped_evaluation_does_not_mind_mirrored_images(config, dataset):
    config = settings.changed(config, {"test_time_flip": True})
    program = one_device(config, dataset)
    state = program.initial_state(0)
    before = program.evaluate(state, "test", soft=True).matrix
    test = dataset.splits["test"]
    mirrored = ArraySource([test.image(i)[:, ::-1] for i in range(len(test))], test.labels)
    other = one_device(config, dataclasses.replace(dataset, splits=dataset.splits | {"test": mirrored}))
    np.testing.assert_allclose(before, other.evaluate(state, "test", soft=True).matrix, rtol=1e-5)
