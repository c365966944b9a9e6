"""Every configuration that is shipped: its network can be built, and two steps of it run."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from cdml_jax import settings
from cdml_jax.configuration.checks import check
from cdml_jax.configuration.load import shipped_configs
from cdml_jax.configuration.settings import changed
from cdml_jax.data.dataset import Dataset
from cdml_jax.models import build, resnet, vit
from cdml_jax.models.pretrained import save_weights
from cdml_jax.training.loop import fit
from cdml_jax.training.program import Program
from cdml_jax.training.state import split_model

CLASSES, IMAGES, SIDE = 3, 12, 56


class Noise:
    """Images of noise, in memory."""

    def __init__(self, name):
        rng = np.random.default_rng(len(name))
        self._name, self.labels = name, np.arange(IMAGES, dtype=np.int32) % CLASSES
        self._images = rng.integers(0, 256, (IMAGES, SIDE, SIDE, 3), np.uint8)

    def __len__(self):
        return IMAGES

    def __getitem__(self, index):
        return {"image": self._images[index], "label": int(self.labels[index])}

    def name(self, index):
        return f"{self._name} {index}"


@pytest.fixture
def quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def network_arguments(config):
    arguments = dataclasses.asdict(config.model)
    return {key: arguments[key] for key in arguments.keys() - {"weights", "frozen", "frozen_views"}}


@pytest.mark.parametrize("name", shipped_configs())
def test_it_holds_together_and_its_network_takes_its_images(name):
    config = settings(name)
    check(config)
    arguments = network_arguments(config)
    side = config.image.image_size

    def outputs(images):
        return build(num_classes=7, rngs=nnx.Rngs(0), **arguments)(images, train=False)

    shapes = jax.eval_shape(outputs, jax.ShapeDtypeStruct((2, side, side, 3), np.float32))
    assert shapes.logits.shape == (2, 7)
    assert shapes.embeddings.shape[0] == 2


@pytest.mark.parametrize("name", shipped_configs())
def test_two_steps_of_it_run(name, monkeypatch, tmp_path, quick_compilation):
    # As wide as they are, but shallow: what is deep takes a minute to compile here.
    monkeypatch.setitem(resnet.DEPTHS, 50, (1, 1, 1, 1))
    monkeypatch.setattr(vit, "BLOCKS", 1)
    config = settings(name)

    def network():
        return build(num_classes=CLASSES, rngs=nnx.Rngs(0), **network_arguments(config))

    parameters, statistics = jax.jit(lambda: split_model(network())[1:])()
    save_weights(tmp_path / "weights.safetensors", parameters, statistics, {"style": config.model.style})
    frozen = config.model.frozen
    config = changed(
        config,
        {
            "model.weights": str(tmp_path / "weights.safetensors"),
            "model.frozen": frozen
            if frozen in ("", "backbone")
            else str(len(nnx.eval_shape(network).blocks)),
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
    splits = {split: Noise(split) for split in ("train", "validation", "test")}
    dataset = Dataset("noise", tuple("abc"), None, None, splits)
    run = fit(Program(config, dataset, devices=jax.devices()[:1]), "cdml", 0)
    assert int(run.state.step) == 2
    assert np.isfinite([entry["loss"] for entry in run.history]).all()
