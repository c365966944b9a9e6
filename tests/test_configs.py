"""Every configuration that is shipped: its network can be built, and two steps of it run."""

import jax
import numpy as np
import pytest
from flax import nnx

from cdml_jax import settings
from cdml_jax.configuration.checks import check
from cdml_jax.configuration.load import shipped_configs
from cdml_jax.configuration.settings import changed
from cdml_jax.data import ArraySource, Classes, Dataset
from cdml_jax.methods import METHODS
from cdml_jax.models import build, resnet, spec_of, vit
from cdml_jax.models.weights.loading import save_weights
from cdml_jax.runs.loop import fit
from cdml_jax.training.program import Program
from cdml_jax.training.state import split_model

CLASSES, IMAGES, SIDE = 3, 12, 56


def noise(name):
    """Images of noise, in memory."""
    images = np.random.default_rng(len(name)).integers(0, 256, (IMAGES, SIDE, SIDE, 3), np.uint8)
    return ArraySource(images, np.arange(IMAGES) % CLASSES)


@pytest.fixture
def quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize("name", shipped_configs())
def test_it_holds_together_and_its_network_takes_its_images(name):
    config = settings(name)
    check(config)
    side = config.image.image_size if config.image.image_size > 0 else SIDE  # left to the images

    def outputs(images):
        network = build(config.model.name, spec_of(config.model, 7), rngs=nnx.Rngs(0))
        return network(images, train=False)

    shapes = jax.eval_shape(outputs, jax.ShapeDtypeStruct((2, side, side, 3), np.float32))
    assert shapes.logits.shape == (2, 7)
    assert shapes.embeddings.shape[0] == 2


# Their steps are those of others: of cub200_160, which differs in costs or methods alone; of test_own_images.
_RUN_ELSEWHERE = {"cub200_160_paper", "cub200_table1", "own_images"}


@pytest.mark.parametrize("name", sorted(set(shipped_configs()) - _RUN_ELSEWHERE))
def test_two_steps_of_it_run(name, monkeypatch, tmp_path, quick_compilation):
    # As wide as they are, but shallow: what is deep takes a minute to compile here.
    monkeypatch.setitem(resnet.DEPTHS, 50, (1, 1, 1, 1))
    monkeypatch.setattr(vit, "BLOCKS", 1)
    config = settings(name)

    def network():
        return build(config.model.name, spec_of(config.model, CLASSES), rngs=nnx.Rngs(0))

    parameters, statistics = jax.jit(lambda: split_model(network())[1:])()
    save_weights(tmp_path / "weights.safetensors", parameters, statistics, {"style": config.model.style})
    frozen = config.model.frozen
    some_blocks = str(len(nnx.eval_shape(network).blocks))
    config = changed(
        config,
        {
            "model.weights": str(tmp_path / "weights.safetensors"),
            "model.frozen": frozen if frozen in ("", "backbone") else some_blocks,
            "model.frozen_views": min(config.model.frozen_views, 1),
            "image.image_size": SIDE,
            "image.resize": SIDE,
            "epochs": 2,
            "warmup_epochs": 1,
            "batch_size": IMAGES,
            "evaluate_every": 2,
            "data.data_dir": str(tmp_path),
            "data.num_threads": 0,
        },
    )
    splits = {split: noise(split) for split in ("train", "validation", "test")}
    dataset = Dataset("noise", Classes(tuple("abc")), splits)
    run = fit(Program(config, dataset, devices=jax.devices()[:1]), METHODS["cdml"], 0)
    assert int(run.state.step) == 2
    assert np.isfinite([entry["loss"] for entry in run.history]).all()
