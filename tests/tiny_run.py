"""A network without batch statistics, a data set in memory and a configuration: seconds, not minutes."""

import signal

import numpy as np
import pytest
from flax import nnx

from cdml_jax.configuration.settings import changed, defaults
from cdml_jax.data import ArraySource, Classes, Dataset
from cdml_jax.distributed.signals import Stop
from cdml_jax.models import NETWORKS, Network, Variant
from cdml_jax.models.heads import Heads


class Tiny(Network):
    """Mean colours of quarters, a linear layer with batch norm, two heads."""

    def __init__(self, spec, *, rngs):
        super().__init__(spec)
        self.param_dtype = spec.param_dtype
        self.body = nnx.Linear(12, 16, param_dtype=self.param_dtype, rngs=rngs)
        self.norm = nnx.BatchNorm(16, momentum=0.8, param_dtype=self.param_dtype, rngs=rngs)
        self.heads = Heads(16, spec, rngs=rngs)

    def __call__(self, images, *, train):
        batch, height, width, _ = images.shape
        quarters = images.astype(self.param_dtype).reshape(batch, 2, height // 2, 2, width // 2, 3)
        quarters = quarters.mean((2, 4)).reshape(batch, 12)
        return self.heads(nnx.tanh(self.norm(self.body(quarters), use_running_average=not train)))


class TinyPlain(Tiny):
    """The same without batch norm: a row's output does not depend on its batch."""

    def __call__(self, images, *, train):
        batch, height, width, _ = images.shape
        quarters = images.astype(self.param_dtype).reshape(batch, 2, height // 2, 2, width // 2, 3)
        quarters = quarters.mean((2, 4)).reshape(batch, 12)
        return self.heads(nnx.tanh(self.body(quarters)))


class Positions(nnx.Module):
    """A linear layer at each position, with a ReLU; a block is called with `train`: whether it is trained."""

    def __init__(self, spec, *, rngs):
        self.linear = nnx.Linear(12, 15, dtype=spec.dtype, param_dtype=spec.param_dtype, rngs=rngs)

    def __call__(self, x, *, train):
        return nnx.relu(self.linear(x))


class TinyMap(Network):
    """Squares of 4 pixels, a block, a last map of 15 channels; no batch norm and no convolution."""

    def __init__(self, spec, *, rngs):
        super().__init__(spec)
        self.stem = nnx.Linear(48, 12, dtype=spec.dtype, param_dtype=spec.param_dtype, rngs=rngs)
        self.blocks = nnx.List([Positions(spec, rngs=rngs)])
        self.heads = Heads(15, spec, rngs=rngs)

    def enter(self, images, *, train):
        batch, height, width, _ = images.shape
        squares = images.astype(self.dtype).reshape(batch, height // 4, 4, width // 4, 4, 3)
        squares = squares.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // 4, width // 4, 48)
        return nnx.relu(self.stem(squares))

    def pool(self, x, *, train):
        return x.astype(self.heads.dtype).mean((1, 2))


class Half(nnx.Module):
    """A convolution to a map of half the size."""

    def __init__(self, inputs, outputs, spec, *, rngs):
        self.conv = nnx.Conv(inputs, outputs, (3, 3), strides=2, param_dtype=spec.param_dtype, rngs=rngs)

    def __call__(self, x, *, train):
        return nnx.relu(self.conv(x))


class TinyStages(TinyMap):
    """Maps of 4, 2 and 1 pixels a side, of images of 16."""

    def __init__(self, spec, *, rngs):
        super().__init__(spec, rngs=rngs)
        self.blocks = nnx.List([Half(12, 12, spec, rngs=rngs), Half(12, 15, spec, rngs=rngs)])


@pytest.fixture(autouse=True)
def tiny_networks(monkeypatch):
    monkeypatch.setitem(NETWORKS, "tiny", Variant(Tiny))
    monkeypatch.setitem(NETWORKS, "tiny_plain", Variant(TinyPlain))
    monkeypatch.setitem(NETWORKS, "tiny_map", Variant(TinyMap))


def make_images(rng, labels, size=16):
    """Classes 2k and 2k + 1 are kin: they differ in one quarter alone."""
    colours = np.random.default_rng(0).uniform(60, 200, (3, 12))
    means = colours[labels // 2].copy()
    means[:, :3] += np.where(labels % 2, 22, -22)[:, None]
    quarters = means.reshape(-1, 2, 1, 2, 1, 3) + rng.normal(0, 40, (labels.size, 2, 1, 2, 1, 3))
    images = np.broadcast_to(quarters, (labels.size, 2, size // 2, 2, size // 2, 3))
    noise = rng.normal(0, 8, (labels.size, size, size, 3))
    return np.clip(images.reshape(labels.size, size, size, 3) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def dataset():
    rng = np.random.default_rng(7)
    sizes = {"train": [20, 20, 16, 12, 20, 12], "holdout": [4] * 6, "validation": [9] * 6, "test": [10] * 6}
    splits = {}
    for name, per_class in sizes.items():
        labels = np.repeat(np.arange(6), per_class)
        images = make_images(rng, labels)
        splits[name] = ArraySource(images, labels, [f"{name}[{i}]" for i in range(labels.size)])
    return Dataset("colours", Classes(tuple("abcdef"), (0, 0, 1, 1, 2, 2), ("ab", "cd", "ef")), splits)


@pytest.fixture
def config():
    return changed(
        defaults(),
        {
            "model.name": "tiny",
            "model.embedding_size": 8,
            "image.image_size": 16,
            "image.crop": "random",
            "image.resize": 16,
            "image.flip": False,
            "batch_size": 16,
            "epochs": 4,
            "warmup_epochs": 1,
            "evaluate_every": 2,
            "sampling.images_per_class": 2,
            "sampling.classes_per_group": 2,
            "data.num_threads": 0,
        },
    )


def epoch_counts(program, state):
    """The epoch's counts over all devices, on the host."""
    return program.storage.total(state.counts).on_host()


class StopAt(Stop):
    """Asks to end after so many looks, as a signal would."""

    def __init__(self, looks):
        self._looks = looks

    @property
    def signal_number(self):
        self._looks -= 1
        return signal.SIGTERM if self._looks < 0 else None
