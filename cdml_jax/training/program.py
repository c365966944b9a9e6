"""All that is compiled and loaded once, and then serves every method and seed of a table."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from cdml_jax.confusion import Confusion, Statistics
from cdml_jax.data.dataset import Dataset
from cdml_jax.data.feeds.feed import Feed
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.errors import UserError
from cdml_jax.methods import Facts
from cdml_jax.methods.structure import PLAIN, Structure
from cdml_jax.models import apart_of, build, rates_of, spec_of
from cdml_jax.models.weights.loading import load_weights
from cdml_jax.training.epoch import WATCHED_PAIRS
from cdml_jax.training.evaluation import evaluation_step
from cdml_jax.training.frozen import cut_of, feeds_of
from cdml_jax.training.optimizer import make_optimizer, make_schedule
from cdml_jax.training.settings import TrainingSettings
from cdml_jax.training.sources.costs import cost_matrix
from cdml_jax.training.state import (
    Costs,
    TrainState,
    abstract_costs,
    abstract_state,
    begin_epoch,
    make_initializer,
)
from cdml_jax.training.step import StepSettings, train_step
from cdml_jax.training.storage import empty_record, make_storage

Fill = Callable[..., tuple[Any, Any]]
"""Parameters and batch statistics as a network begins, from those drawn; with `quiet=False` it says how."""
Config_co = TypeVar("Config_co", bound=TrainingSettings, covariant=True)


class Program(Generic[Config_co]):
    """A configuration and a data set, made ready to train.

    Args:
      config: the settings.
      dataset: what it trains on.
      devices: those that share the work; None for all.
      feeds: the splits' batches where they are not those of the data set: another program's, or its folds.
      structure: what makes its step differ from the baseline's.
      fill: with what the network begins, where `model.weights` is set; None is what it names, a file.

    Attributes:
      feeds: the batches of each split; of features, where the front of the network is frozen.
      traces: how often each function was traced; one compiled step serves all methods of the structure,
        epochs and seeds.
      steps_per_epoch, total_steps: batches; each gives as many `updates` as the structure has.
      schedule: learning rate of an update.
      cut: blocks of the network in front of what is trained; None where all is.
    """

    def __init__(
        self,
        config: Config_co,
        dataset: Dataset,
        devices: Sequence[jax.Device] | None = None,
        *,
        feeds: Mapping[str, Feed] | None = None,
        structure: Structure = PLAIN,
        fill: Fill | None = None,
    ):
        self.config, self.dataset, self.structure = config, dataset, structure
        self.fill = fill or functools.partial(
            load_weights, config.model.weights, network=config.model.name, style=config.model.style
        )
        self.mesh = mesh_lib.make_mesh(
            config.batch_size, config.accumulation, devices, data=config.mesh.data, model=config.mesh.model
        )
        self.traces: collections.Counter[str] = collections.Counter()
        images = len(dataset.splits["train"] if feeds is None else feeds["train"])
        if config.batch_size > images:
            raise UserError(f"batch_size: {config.batch_size} exceeds the {images} training images")
        self.steps_per_epoch = -(-images // config.batch_size)
        self.total_steps = self.steps_per_epoch * config.epochs
        self.updates = len(structure.substeps)
        self.schedule = make_schedule(config.optimizer, self.total_steps * self.updates)
        kept = config.confusion
        self.storage = make_storage(
            kept.storage, dataset.num_classes, kept.top_k, self.mesh, symmetric=kept.symmetric
        )
        platform, data = self.mesh.devices.flat[0].platform, self.mesh.shape[mesh_lib.DATA]
        spec = spec_of(config.model, dataset.num_classes, data=data, platform=platform)
        plain = functools.partial(build, config.model.name, spec)
        build_model = functools.partial(plain, part=structure.part, families=dataset.classes.families)
        self.cut, outside = cut_of(config.model.frozen, build_model)
        if feeds is None:
            feeds = feeds_of(config, dataset.splits, plain, mesh=self.mesh, fill=self.fill)
        self.feeds = feeds
        steps, part = self.steps_per_epoch * self.updates, structure.part
        rates, apart = rates_of(part), apart_of(part)
        optimizer = make_optimizer(
            config.optimizer, self.schedule, steps_per_epoch=steps, outside=outside, rates=rates, apart=apart
        )
        self.graph, self._init, self.shardings = make_initializer(
            build_model,
            optimizer,
            mesh=self.mesh,
            storage=self.storage,
            soft_counts=config.confusion.counts == "soft",
            ema=config.optimizer.ema_decay > 0,
            watched=min(WATCHED_PAIRS, dataset.num_classes * (dataset.num_classes - 1)),
            structure=structure,
            images=images,
            shard_parameters_from=config.mesh.shard_parameters_from,
        )
        self._compile(optimizer)

    def _compile(self, optimizer: optax.GradientTransformation) -> None:
        """The functions that are traced at their first call."""
        config = self.config
        bound = {"graph": self.graph, "shardings": self.shardings.parameters, "storage": self.storage}
        settings = StepSettings(
            num_triplets=config.objective.triplets_per_image * config.batch_size,
            margin=config.objective.margin,
            label_smoothing=config.objective.label_smoothing,
            accumulation=config.accumulation,
            soft_counts=config.confusion.counts == "soft",
            ema_decay=config.optimizer.ema_decay,
            cut=self.cut,
            structure=self.structure,
        )
        self.step = self._traced(
            "step",
            functools.partial(train_step, optimizer=optimizer, settings=settings, mesh=self.mesh, **bound),
            self.shardings,
        )
        of_counts = self.storage.shardings()
        # By whether counts are soft, and whether embeddings are the pooled features.
        self._evaluate = {
            (soft, features): self._traced(
                "evaluate" + ("_features" if features else "") + ("_soft" if soft else ""),
                functools.partial(
                    evaluation_step,
                    soft=soft,
                    features=features,
                    cut=self.cut,
                    flip=config.test_time_flip,
                    **bound,
                ),
                # Logits stay as they are computed: their columns may be split over "model".
                (of_counts, mesh_lib.split_rows(self.mesh), None),
            )
            for soft in (False, True)
            for features in (False, True)
        }
        self._no_counts = {
            soft: jax.jit(
                functools.partial(self.storage.empty, jnp.float32 if soft else jnp.int32),
                out_shardings=of_counts,
            )
            for soft in (False, True)
        }
        self.begin_epoch = jax.jit(
            functools.partial(begin_epoch, storage=self.storage),
            donate_argnums=0,
            out_shardings=self.shardings,
        )
        self.copy = jax.jit(lambda state: jax.tree.map(jnp.copy, state), out_shardings=self.shardings)

    def _traced(self, name: str, function: Callable[..., Any], out_shardings: Any) -> Any:
        """`function` under jit, its first argument donated, with its traces counted."""

        def traced(*arguments):
            self.traces[name] += 1
            return function(*arguments)

        return jax.jit(traced, donate_argnums=0, out_shardings=out_shardings)

    def beside(
        self, feeds: Mapping[str, Feed] | None = None, structure: Structure | None = None
    ) -> Program[Config_co]:
        """A program of the same settings and the same beginning, for other images or another structure."""
        feeds, structure = self.feeds if feeds is None else feeds, structure or self.structure
        return Program(self.config, self.dataset, feeds=feeds, structure=structure, fill=self.fill)

    def feed(self, split: str) -> Feed:
        """The batches of a split.

        Raises:
          UserError: the data set has no such split.
        """
        if split not in self.feeds:
            raise UserError(f"the data set {self.dataset.name} has no {split} split")
        return self.feeds[split]

    def initial_state(self, seed: int) -> TrainState:
        """State before the first step: the same parameters for every method of a seed."""
        state = self._init(np.uint32(seed))
        if self.config.model.weights:
            loaded = self.fill(state.parameters, state.batch_statistics)
            loaded = jax.device_put(loaded, (self.shardings.parameters, self.shardings.batch_statistics))
            state = state._replace(parameters=loaded[0], batch_statistics=loaded[1])
            if state.averages:
                state = self.copy(state._replace(averages=loaded))  # no array twice: the step uses them up
        return state

    def check_weights(self) -> None:
        """Refuse weights that do not fit, before anything is written; say in a line what is made of them."""
        if self.config.model.weights:
            self.fill(*self.abstract_state().in_use, quiet=False)

    def abstract_state(self) -> TrainState:
        """Shapes and shardings of a state, for a restore."""
        return abstract_state(self._init, self.shardings)

    def abstract_costs(self) -> Costs:
        """Shapes and shardings of an epoch's costs."""
        watched = self.abstract_state().metrics["watched_share"].total.size
        return abstract_costs(self.storage, watched, mesh_lib.replicated(self.mesh), self.structure)

    def abstract_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and shardings of a global batch on the devices."""
        one: dict[str, Any] = {"label": ((), np.int32), "mask": ((), np.bool_), "index": ((), np.int32)}
        fields = {"image": self.feed("train").spec, **one}
        rows, sharding = self.config.batch_size, mesh_lib.split_rows(self.mesh)
        return {
            name: jax.ShapeDtypeStruct((rows, *shape), dtype, sharding=sharding)
            for name, (shape, dtype) in fields.items()
        }

    def abstract_evaluation(self) -> Any:
        """Shapes and shardings of what an evaluation holds: counts, and their sum."""
        counts = jax.tree.map(
            lambda a, sharding: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding),
            jax.eval_shape(self._no_counts[False]),
            self.storage.shardings(),
        )
        return counts, self.storage.abstract_total()

    def taken_over(self, state: TrainState) -> TrainState:
        """A state at an epoch's end, of a program of the same parameters, as one of this program."""
        shapes = self.abstract_state()
        zeros = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes.metrics)
        images = empty_record(*shapes.images.probabilities.shape) if shapes.images else ()
        metrics, images = mesh_lib.put_replicated(self.mesh, (zeros, images))
        return state._replace(metrics=metrics, images=images)

    @functools.cached_property
    def costs(self) -> np.ndarray | None:
        """What stands in the place of counts, if anything: training alone needs it, and reads its file."""
        return cost_matrix(self.config.confusion.source, self.dataset.classes, self.storage)

    def facts(self, statistics: Statistics, confusion: Confusion) -> Facts:
        """What a method's weights are made of, after the confusion so far."""
        objective = self.config.objective
        return Facts(
            statistics,
            np.bincount(self.feed("train").labels, minlength=self.dataset.num_classes),
            self.dataset.classes,
            confusion=confusion if self.costs is None else None,
            costs=self.costs,
            smoothing=self.config.confusion.smoothing,
            mode=objective.mode,
            beta=objective.beta,
            normalize=objective.normalize,
        )

    def evaluate(self, state: TrainState, split: str, **options: Any) -> Confusion:
        """Counts of a split on the host: hard int64, or soft float32.

        The weights are the averaged ones, where they are kept. `options` are those of `total_counts`.
        """
        counts = self.total_counts(state, split, **options).on_host()
        return jax.tree.map(lambda a: a.astype(np.int64) if a.dtype == np.int32 else a, counts)

    def total_counts(
        self,
        state: TrainState,
        split: str,
        *,
        soft: bool = False,
        each: Callable[[dict[str, jax.Array], jax.Array, jax.Array], None] | None = None,
        features: bool = False,
    ) -> Confusion:
        """Counts of a split, where the storage has them.

        Args:
          state: of the run.
          split: which images.
          soft: whether probabilities are counted, or predicted classes.
          each: called with every batch, its embeddings (B, size) and its logits (B, C), all on the devices,
            rows split over "data".
          features: whether embeddings are the pooled features, of length 1, whatever the head gives.
        """
        parameters, statistics = state.in_use
        evaluate, counts = self._evaluate[soft, features], self._no_counts[soft]()
        for batch in self.feed(split).evaluation():
            placed = mesh_lib.put_batch(self.mesh, batch)
            counts, embeddings, logits = evaluate(counts, parameters, statistics, placed)
            if each is not None:
                each(placed, embeddings, logits)
        return self.storage.total(counts)

    def put_costs(self, costs: Costs) -> Costs:
        """An epoch's costs on the devices."""
        others = costs._asdict()
        pairs = self.storage.put_pairs(others.pop("pair_weights"))
        return Costs(**mesh_lib.put_replicated(self.mesh, others), pair_weights=pairs)

    def model(self, state: TrainState) -> nnx.Module:
        """The network as it is used: averaged weights where kept, running statistics."""
        return nnx.merge(self.graph, *state.in_use)
