"""All that is compiled and loaded once, and then serves every row and seed of a table."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cdml_jax.data.batches import Batch, cached, evaluation_batches, training_batches
from cdml_jax.data.dataset import Dataset, Source
from cdml_jax.data.features import FeatureSource, evaluation_feature_batches, training_feature_batches
from cdml_jax.data.sources import load
from cdml_jax.errors import UserError
from cdml_jax.models import build
from cdml_jax.models.pretrained import load_weights
from cdml_jax.top_confusions import TopConfusions
from cdml_jax.training import mesh as mesh_lib
from cdml_jax.training.frozen import frozen_dataset
from cdml_jax.training.optimizer import make_optimizer, make_schedule
from cdml_jax.training.rows import WATCHED_PAIRS
from cdml_jax.training.state import (
    Costs,
    TrainState,
    abstract_costs,
    abstract_state,
    begin_epoch,
    make_initializer,
)
from cdml_jax.training.step import StepSettings, evaluation_step, train_step
from cdml_jax.training.storage import Counts, make_storage, to_host

if TYPE_CHECKING:
    from cdml_jax.configuration.settings import Settings


def load_dataset(config: Settings, **changes: str) -> Dataset:
    """The data set that a configuration asks for; `changes` replace keys of `data`, such as test=""."""
    data = dataclasses.replace(config.data, **changes)  # type: ignore[arg-type]
    return load(
        config.source,
        data_dir=data.data_dir,
        train=data.train,
        validation=data.validation,
        test=data.test,
        holdout=data.holdout,
        holdout_fraction=data.holdout_fraction,
        validation_fraction=data.validation_fraction,
        test_fraction=data.test_fraction,
        check=data.check,
        class_disjoint=data.class_disjoint,
    )


class Program:
    """A configuration and a data set, made ready to train.

    Attributes:
      traces: how often each function was traced; one compiled step serves all rows, epochs and seeds.
      steps_per_epoch, total_steps: optimiser steps.
      schedule: learning rate of a step.
    """

    def __init__(self, config: Settings, dataset: Dataset, devices: Sequence[jax.Device] | None = None):
        self.config, self.dataset = config, dataset
        self.mesh = mesh_lib.make_mesh(
            config.batch_size,
            config.accumulation,
            devices,
            data=config.mesh.data,
            model=config.mesh.model,
        )
        self.traces: collections.Counter[str] = collections.Counter()
        self.transform = config.image
        images = len(dataset.splits["train"])
        if config.batch_size > images:
            raise UserError(f"batch_size: {config.batch_size} exceeds the {images} training images")
        self.steps_per_epoch = -(-images // config.batch_size)
        self.total_steps = self.steps_per_epoch * config.epochs
        self.schedule = make_schedule(config.optimizer, self.total_steps)
        build_model = functools.partial(build, num_classes=dataset.num_classes, **self._model_arguments())
        cut: int | None = None
        outside: tuple[str, ...] = ()
        if config.model.frozen:
            network = nnx.eval_shape(lambda: build_model(rngs=nnx.Rngs(0)))
            cut = network.cut(config.model.frozen)
            outside = network.front_names(cut)
            if not isinstance(dataset.splits["train"], FeatureSource):
                self.dataset = frozen_dataset(config, dataset, build_model, mesh=self.mesh)
        optimizer = make_optimizer(
            config.optimizer, self.schedule, steps_per_epoch=self.steps_per_epoch, outside=outside
        )
        self._sources: dict[str, Source] = {}
        soft = config.confusion.counts == "soft"
        self.storage = make_storage(
            config.confusion.storage, dataset.num_classes, config.confusion.top_k, self.mesh
        )
        if config.confusion.symmetric and self.storage.name == "top":
            raise UserError(
                "confusion.symmetric: True needs all pairs; set confusion.storage to dense or by_row"
            )
        graph, self._init, self.shardings = make_initializer(
            build_model,
            optimizer,
            mesh=self.mesh,
            storage=self.storage,
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
            cut=cut,
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
            storage=self.storage,
        )
        of_counts = self.storage.shardings()
        self._evaluate, self._evaluate_features = (
            self._compiled(
                name,
                evaluation_step,
                ((of_counts, of_counts), mesh_lib.by_row(self.mesh)),
                graph=graph,
                shardings=self.shardings.parameters,
                storage=self.storage,
                cut=cut,
                flip=config.test_time_flip,
                features=features,
            )
            for name, features in (("evaluate", False), ("evaluate_features", True))
        )
        self._no_counts = jax.jit(
            lambda: tuple(self.storage.empty(dtype) for dtype in (jnp.int32, jnp.float32)),
            out_shardings=(of_counts, of_counts),
        )
        self.begin_epoch = jax.jit(
            functools.partial(begin_epoch, storage=self.storage),
            donate_argnums=0,
            out_shardings=self.shardings,
        )
        self.copy = jax.jit(lambda state: jax.tree.map(jnp.copy, state), out_shardings=self.shardings)
        self.graph = graph

    def _model_arguments(self) -> dict[str, Any]:
        arguments = dataclasses.asdict(self.config.model)
        for key in ("weights", "frozen", "frozen_views"):
            arguments.pop(key)
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
            source = self.dataset.splits[split]
            self._sources[split] = (
                source
                if isinstance(source, FeatureSource)
                else cached(
                    source,
                    self.config.data.cache_bytes,
                    resize=self._cached_side(),
                    num_threads=self.config.data.num_threads,
                )
            )
        return self._sources[split]

    def _cached_side(self) -> int:
        # A crop that zooms in needs the pixels; any other sees the image at this size in any case.
        return 0 if self.transform.crop == "random_resized" else self.transform.short_side

    def training_batches(
        self, order: np.ndarray, *, seed: int, epoch: int, start_step: int = 0
    ) -> Generator[Batch, None, None]:
        """This process's rows of an epoch's batches, in the order planned."""
        source, shard = self.source("train"), mesh_lib.process_shard(self.mesh)
        place: dict[str, Any] = {"seed": seed, "epoch": epoch, "start_step": start_step, "shard": shard}
        if isinstance(source, FeatureSource):
            return training_feature_batches(source, order, **place)
        threads = self.config.data.num_threads
        return training_batches(source, order, transform=self.transform, num_threads=threads, **place)

    def evaluation_batches(self, split: str) -> Generator[Batch, None, None]:
        """This process's rows of a split's batches: every image once, the last batch padded."""
        source, size = self.source(split), self.config.batch_size
        shard = mesh_lib.process_shard(self.mesh)
        if isinstance(source, FeatureSource):
            return evaluation_feature_batches(source, batch_size=size, shard=shard)
        return evaluation_batches(
            source,
            batch_size=size,
            transform=self.transform,
            num_threads=self.config.data.num_threads,
            shard=shard,
        )

    def initial_state(self, seed: int) -> TrainState:
        """State before the first step: the same parameters for every row of a seed."""
        state = self._init(np.uint32(seed))
        if self.config.model.weights:
            loaded = self._loaded(state)
            loaded = jax.device_put(loaded, (self.shardings.parameters, self.shardings.batch_statistics))
            state = state._replace(parameters=loaded[0], batch_statistics=loaded[1])
            if state.averages:
                state = self.copy(state._replace(averages=loaded))  # no array twice: the step uses them up
        return state

    def check_weights(self) -> None:
        """Refuse weights that do not fit, before anything is written."""
        if self.config.model.weights:
            self._loaded(self.abstract_state())

    def _loaded(self, state: TrainState) -> tuple[Any, Any]:
        return load_weights(
            self.config.model.weights,
            state.parameters,
            state.batch_statistics,
            network=self.config.model.name,
            style=self.config.model.style,
        )

    def abstract_state(self) -> TrainState:
        """Shapes and shardings of a state, for a restore."""
        return abstract_state(self._init, self.shardings)

    def abstract_costs(self) -> Costs:
        """Shapes and shardings of an epoch's costs."""
        watched = self.abstract_state().metrics["watched_share"].total.size
        return abstract_costs(self.storage, watched, mesh_lib.replicated(self.mesh))

    def abstract_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and shardings of a global batch on the devices."""
        source, side = self.dataset.splits["train"], self.config.image.image_size
        image: tuple[tuple[int, ...], Any] = ((side, side, 3), np.uint8)
        if isinstance(source, FeatureSource):
            image = (source.features.shape[2:], source.features.dtype)
        fields = {"image": image, "label": ((), np.int32), "mask": ((), np.bool_)}
        rows, sharding = self.config.batch_size, mesh_lib.by_row(self.mesh)
        return {
            name: jax.ShapeDtypeStruct((rows, *shape), dtype, sharding=sharding)
            for name, (shape, dtype) in fields.items()
        }

    def abstract_evaluation(self) -> Any:
        """Shapes and shardings of what an evaluation holds: hard and soft counts, and one's sum."""
        shardings = self.storage.shardings()
        counts = jax.tree.map(
            lambda a, sharding: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding),
            jax.eval_shape(self._no_counts),
            (shardings, shardings),
        )
        return counts, self.storage.abstract_total()

    def epoch_counts(self, state: TrainState) -> Counts:
        """The epoch's counts over all devices, (C, C) or `TopConfusions`, on the host."""
        return self.on_host(self.storage.total(state.counts))

    def evaluate(self, state: TrainState, split: str, **options: Any) -> tuple[Counts, Counts]:
        """Hard int64 and soft float32 counts of a split, (C, C) or `TopConfusions`, on the host.

        The weights are the averaged ones, where they are kept. `options` are those of `total_counts`.
        """
        hard, soft = map(self.on_host, self.total_counts(state, split, **options))
        return jax.tree.map(lambda a: a.astype(np.int64), hard), soft

    def total_counts(
        self,
        state: TrainState,
        split: str,
        *,
        embedded: Callable[[jax.Array], None] | None = None,
        features: bool = False,
    ) -> tuple[Counts, Counts]:
        """Hard and soft counts of a split, where the storage has them.

        `embedded` is called with the embeddings of each batch, (B, size), its rows split over "data"; with
        `features` they are the pooled features, of length 1, whatever the network's head gives.
        """
        parameters, statistics = state.in_use
        evaluate = self._evaluate_features if features else self._evaluate
        counts = self._no_counts()
        for batch in self.evaluation_batches(split):
            batch.pop("index")
            placed = mesh_lib.put_batch(self.mesh, batch)
            counts, embeddings = evaluate(counts, parameters, statistics, placed)
            if embedded is not None:
                embedded(embeddings)
        return self.storage.total(counts[0]), self.storage.total(counts[1])

    def put_costs(self, costs: Costs) -> Costs:
        """An epoch's costs on the devices."""
        pairs = self.storage.put_pairs(costs.pair_weights)
        return mesh_lib.put_replicated(self.mesh, costs._replace(pair_weights=()))._replace(
            pair_weights=pairs
        )

    def on_host(self, total: Counts) -> Counts:
        """What `storage.total` gives, (C, C) or `TopConfusions`, on the host."""
        matrix = not isinstance(total, TopConfusions)
        return to_host(total)[: self.dataset.num_classes] if matrix else total

    def model(self, state: TrainState) -> nnx.Module:
        """The network as it is used: averaged weights where kept, running statistics."""
        return nnx.merge(self.graph, *state.in_use)
