"""A pretrained network without a run: features, descriptors and boxes need no training of one's own."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx

from cdml_jax.configuration.checks import check
from cdml_jax.configuration.settings import Settings
from cdml_jax.configuration.styles import styled
from cdml_jax.confusion import DenseConfusion
from cdml_jax.data.classes import Classes
from cdml_jax.errors import UserError
from cdml_jax.inference.trained_run import TrainedRun
from cdml_jax.models import build, spec_of
from cdml_jax.models.weights.loading import load_weights
from cdml_jax.runs.beginning import beginning
from cdml_jax.runs.trained_weights import Weights
from cdml_jax.system import console, ranges
from cdml_jax.training.state import split_model

SIDE = 224  # where the settings leave the side to the images, which are not looked at here


def pretrained(
    settings: Settings, *, side: int | None = None, devices: Sequence[jax.Device] | None = None
) -> TrainedRun:
    """The network of a configuration as its weights have it; its one class means nothing.

    Args:
      settings: `model` and `image` are read; embeddings are the pooled features.
      side: of images, in pixels, where the settings leave it open; None is 224, and a line says so.
      devices: those that share the work; None for all of this process.

    Raises:
      UserError: no weights are named, or they cannot be read or do not fit.
    """
    check(settings)
    settings = styled(settings)
    if not settings.model.weights:
        raise UserError(
            "model.weights: without a trained run a network needs weights, as --config.model.weights=imagenet"
        )
    if settings.image.image_size == ranges.OPEN:
        if side is None:
            console.say(f"Images are taken at image.image_size={SIDE}, which the configuration leaves open")
        image = dataclasses.replace(settings.image, image_size=side or SIDE)
        settings = dataclasses.replace(settings, image=image)
    model = dataclasses.replace(settings.model, embedding_from="features", frozen="")
    settings = dataclasses.replace(settings, model=model, test_time_flip=False)
    classes = Classes(("",))
    network = build(model.name, spec_of(model, classes.number), rngs=nnx.Rngs(0))
    graph, parameters, statistics = split_model(network)
    fill = beginning(settings, classes) or functools.partial(
        load_weights, model.weights, network=model.name, style=model.style
    )
    parameters, statistics = jax.tree.map(np.asarray, fill(parameters, statistics, quiet=False))
    weights = Weights(parameters, statistics, DenseConfusion(np.zeros((1, 1), np.float32)), 0)
    return TrainedRun(settings, "", classes, graph, weights, devices)
