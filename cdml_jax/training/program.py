"""All that is compiled and loaded once, and then serves every row and seed of a table."""

from __future__ import annotations

import collections
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from cdml_jax.data.batches import cached, evaluation_batches
from cdml_jax.data.dataset import Dataset, Source
from cdml_jax.data.sources import load
from cdml_jax.data.transforms import Transform
from cdml_jax.errors import UserError
from cdml_jax.models import build
from cdml_jax.models.pretrained import load_weights
from cdml_jax.training import mesh as mesh_lib
from cdml_jax.training.optimizer import make_optimizer, make_schedule
from cdml_jax.training.rows import WATCHED_PAIRS
from cdml_jax.training.state import (
    TrainState,
    abstract_state,
    begin_epoch,
    empty_counts,
    make_initializer,
    sum_counts,
)
from cdml_jax.training.step import StepSettings, evaluation_step, train_step


def load_dataset(config: ConfigDict, **changes: str) -> Dataset:
    """The data set that a configuration asks for; `changes` replace keys of `data`, such as test=""."""
    asked = {key: value for key, value in config.data.items() if key not in ("cache_bytes", "num_threads")}
    return load(config.source, **(asked | changes))


class Program:
    """A configuration and a data set, made ready to train.

    Attributes:
      traces: how often each function was traced; one compiled step serves all rows, epochs and seeds.
      steps_per_epoch, total_steps: optimiser steps.
      schedule: learning rate of a step.
    """

    def __init__(self, config: ConfigDict, dataset: Dataset, devices: Sequence[jax.Device] | None = None):
        self.config, self.dataset = config, dataset
        self.mesh = mesh_lib.make_mesh(
            config.batch_size,
            config.accumulation,
            devices,
            data=config.mesh.data,
            model=config.mesh.model,
        )
        self.traces: collections.Counter[str] = collections.Counter()
        self.transform = Transform(**config.image)
        images = len(dataset.splits["train"])
        if config.batch_size > images:
            raise UserError(f"batch_size: {config.batch_size} exceeds the {images} training images")
        self.steps_per_epoch = -(-images // config.batch_size)
        self.total_steps = self.steps_per_epoch * config.epochs
        self.schedule = make_schedule(config.optimizer, self.total_steps)
        optimizer = make_optimizer(
            config.optimizer, self.schedule, steps_per_epoch=self.steps_per_epoch
        )
        self._sources: dict[str, Source] = {}
        soft = config.confusion.counts == "soft"
        graph, self._init, self.shardings = make_initializer(
            functools.partial(build, num_classes=dataset.num_classes, **self._model_arguments()),
            optimizer,
            mesh=self.mesh,
            num_classes=dataset.num_classes,
            soft_counts=soft,
            ema=config.optimizer.ema_decay > 0,
            watched=min(WATCHED_PAIRS, dataset.num_classes * (dataset.num_classes - 1)),
            shard_parameters_from=config.mesh.shard_parameters_from,
        )
        settings = StepSettings(
            num_triplets=config.objective.triplets_per_image * config.batch_size,
            margin=config.objective.margin,
            label_smoothing=config.objective.label_smoothing,
            accumulation=config.accumulation,
            soft_counts=soft,
            ema_decay=config.optimizer.ema_decay,
        )
        self.step = self._compiled(
            "step",
            train_step,
            self.shardings,
            graph=graph,
            optimizer=optimizer,
            settings=settings,
            mesh=self.mesh,
            shardings=self.shardings.parameters,
        )
        of_counts = mesh_lib.of_counts(self.mesh)
        self._evaluate = self._compiled(
            "evaluate", evaluation_step, of_counts, graph=graph, shardings=self.shardings.parameters
        )
        data = self.mesh.shape[mesh_lib.DATA]
        self._no_counts = jax.jit(
            lambda: tuple(empty_counts(data, dataset.num_classes, soft=soft) for soft in (False, True)),
            out_shardings=of_counts,
        )
        self.begin_epoch = jax.jit(begin_epoch, donate_argnums=0, out_shardings=self.shardings)
        self.copy = jax.jit(lambda state: jax.tree.map(jnp.copy, state), out_shardings=self.shardings)
        self.graph = graph

    def _model_arguments(self) -> dict[str, Any]:
        arguments = self.config.model.to_dict()
        arguments.pop("weights")
        return arguments

    def _compiled(self, name: str, function: Any, out_shardings: Any, **bound: Any) -> Any:
        bound_function = functools.partial(function, **bound)

        def traced(*arguments):
            self.traces[name] += 1
            return bound_function(*arguments)

        return jax.jit(traced, donate_argnums=0, out_shardings=out_shardings)

    def source(self, split: str) -> Source:
        """A split, its images decoded in memory where `data.cache_bytes` allows."""
        if split not in self._sources:
            if split not in self.dataset.splits:
                raise UserError(f"the data set {self.dataset.name} has no {split} split")
            self._sources[split] = cached(
                self.dataset.splits[split],
                self.config.data.cache_bytes,
                resize=self._cached_side(),
                num_threads=self.config.data.num_threads,
            )
        return self._sources[split]

    def _cached_side(self) -> int:
        # A crop that zooms in needs the pixels; any other sees the image at this size in any case.
        return 0 if self.transform.crop == "random_resized" else self.transform.short_side

    def initial_state(self, seed: int) -> TrainState:
        """State before the first step: the same parameters for every row of a seed."""
        state = self._init(np.uint32(seed))
        if self.config.model.weights:
            loaded = load_weights(
                self.config.model.weights,
                state.parameters,
                state.batch_statistics,
                network=self.config.model.name,
                style=self.config.model.style,
            )
            loaded = jax.device_put(loaded, (self.shardings.parameters, self.shardings.batch_statistics))
            state = state._replace(parameters=loaded[0], batch_statistics=loaded[1])
            if state.averages:
                state = self.copy(state._replace(averages=loaded))  # no array twice: the step uses them up
        return state

    def abstract_state(self) -> TrainState:
        """Shapes and shardings of a state, for a restore."""
        return abstract_state(self._init, self.shardings)

    def epoch_counts(self, state: TrainState) -> np.ndarray:
        """The epoch's counts over all devices, (C, C), on the host."""
        return np.asarray(sum_counts(state.counts, mesh=self.mesh))

    def evaluate(self, state: TrainState, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Hard (C, C) int64 and soft (C, C) float32 counts of a split, by averaged weights where kept."""
        parameters, statistics = state.in_use
        counts = self._no_counts()
        batches = evaluation_batches(
            self.source(split),
            batch_size=self.config.batch_size,
            transform=self.transform,
            num_threads=self.config.data.num_threads,
            shard=mesh_lib.process_shard(self.mesh),
        )
        for batch in batches:
            batch.pop("index")
            counts = self._evaluate(counts, parameters, statistics, mesh_lib.put_batch(self.mesh, batch))
        hard, soft = (np.asarray(sum_counts(c, mesh=self.mesh)) for c in counts)
        return hard.astype(np.int64), soft

    def model(self, state: TrainState) -> nnx.Module:
        """The network as it is used: averaged weights where kept, running statistics."""
        return nnx.merge(self.graph, *state.in_use)
