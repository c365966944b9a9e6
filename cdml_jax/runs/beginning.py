"""What a run begins with: another run's network where `model.weights` is a workdir, a method that works."""

from __future__ import annotations

import functools
from typing import Any

import jax
from etils.epath import Path
from flax import nnx

from cdml_jax.configuration import places
from cdml_jax.configuration.settings import Settings, from_plain
from cdml_jax.data.classes import Classes
from cdml_jax.errors import UserError
from cdml_jax.methods import Method
from cdml_jax.methods.checks import check as check_functions
from cdml_jax.methods.structure import refusal_of
from cdml_jax.methods.views import VIEWS
from cdml_jax.models import NETWORKS, build, spec_of
from cdml_jax.models.parts import PARTS, ImagePart, source_of
from cdml_jax.runs import class_names, workdir
from cdml_jax.runs.claims import part_of
from cdml_jax.runs.trained_weights import Weights, restore_weights
from cdml_jax.system import console
from cdml_jax.system.files import path_of
from cdml_jax.system.trees import dotted_name, named_leaves
from cdml_jax.training.epoch import check_method, statistics_of
from cdml_jax.training.program import Fill, Program
from cdml_jax.training.state import split_model
from cdml_jax.training.step import observed

Tree = Any
_CLASSIFIER = "heads.classifier."


def beginning(config: Settings, classes: Classes) -> Fill | None:
    """How a network is filled from the run that `model.weights` names; None where it names no run.

    Args:
      config: of the run that begins.
      classes: that it is to tell apart.

    Raises:
      UserError: it is a folder without a run.
    """
    weights = config.model.weights
    if not places.is_file(weights) or not path_of(weights).is_dir():
        return None
    if not (path_of(weights) / "config.json").exists():
        raise UserError(
            f"model.weights: {weights} is a folder that holds no run; give a file, or the workdir of a run"
        )
    return _Beginning(path_of(weights), config, classes)


class _Beginning:
    """Fills trees with what a run has learned; of other classes without the classifier."""

    def __init__(self, folder: Path, config: Settings, classes: Classes):
        self.folder, self.config, self.classes = folder, config, classes

    def __call__(self, parameters: Tree, statistics: Tree, *, quiet: bool = True) -> tuple[Tree, Tree]:
        weights, names = self._theirs
        left_out: set[str] = set()
        same = names.names == self.classes.names
        filled = (
            self._filled(parameters, weights.parameters, left_out, classifier=same),
            self._filled(statistics, weights.batch_statistics, left_out, classifier=same),
        )
        if not quiet:
            self._say(weights.epoch, names, left_out)
        return filled

    @functools.cached_property
    def _theirs(self) -> tuple[Weights, Classes]:
        try:
            return self._read()
        except UserError as error:
            said = str(error).removeprefix("--workdir: ").removeprefix("model.weights: ")
            raise UserError(f"model.weights: {said}") from error

    def _read(self) -> tuple[Weights, Classes]:
        stored = workdir.read_trained(self.folder)
        config = from_plain(stored["config"])
        for key in ("name", "style"):
            theirs, ours = getattr(config.model, key), getattr(self.config.model, key)
            if theirs != ours:
                raise UserError(
                    f"model.weights: {self.folder} trained a network of model.{key}={theirs or repr('')}, "
                    f"not {ours or repr('')}; set model.{key}={theirs}"
                )
        _, names = class_names.read(self.folder)
        spec = spec_of(config.model, names.number)
        part: Any = {"part": part_of(stored), "families": names.families}
        network = nnx.eval_shape(lambda: build(config.model.name, spec, rngs=nnx.Rngs(0), **part))
        _, *shapes = split_model(network)
        return restore_weights(self.folder, *shapes), names

    def _filled(self, ours: Tree, theirs: Tree, left_out: set[str], *, classifier: bool) -> Tree:
        there, own = dict(named_leaves(theirs)), {name for name, _ in named_leaves(ours)}
        pooling = tuple(f"{name}." for name in NETWORKS[self.config.model.name].family.pool_names)
        may_be_left = ("heads.", "part.", *pooling)
        more = sorted(name for name in there if name not in own and not name.startswith(may_be_left))
        if more:
            raise UserError(f"model.weights: {self.folder} has {more[0]}, which this network does not have")

        def fill(path: tuple, leaf: Any) -> Any:
            name = dotted_name(path)
            source = name if name in there else source_of(name)
            if source in there and there[source].shape == leaf.shape:
                if classifier or not name.startswith(_CLASSIFIER):
                    return there[source].astype(leaf.dtype)
            elif not name.startswith(may_be_left):
                shape = there[name].shape if name in there else "nothing"
                raise UserError(f"model.weights: {name} is {shape} in {self.folder}, {leaf.shape} here")
            first, second = name.split(".")[:2]
            left_out.add(second if first == "heads" else "part" if first == "part" else "pooling")
            return leaf

        return jax.tree_util.tree_map_with_path(fill, ours)

    def _say(self, epoch: int, names: Classes, left_out: set[str]) -> None:
        parts = []
        if "classifier" in left_out:
            of = f"the classes are others ({names.number} there, {self.classes.number} here)"
            if names.names == self.classes.names:
                of = "it is of another number of features"
            parts.append(f"its classifier is left out: {of}")
        if "part" in left_out:
            parts.append("the method's part begins as drawn: that run has none, or another")
        if "pooling" in left_out:
            parts.append("the layers of its pooling begin as drawn: that run has a part in their place")
        if "projection" in left_out:
            parts.append("its projection is left out: it has another size, or none")
        what = "; ".join(parts) or "all of it, the classifier included"
        console.say(f"The network begins as {self.folder} was after epoch {epoch}: {what}")


def refuse_method(method: Method, program: Program[Settings]) -> None:
    """Refuse a method that cannot be trained, by calling its functions once before anything is counted.

    Raises:
      UserError: a function fails or gives what cannot be used, or the method needs what is not kept.
    """
    check_method(method, program.storage)
    _check_structure(method, program)
    nothing = program.storage.nothing()
    statistics = statistics_of(nothing, program.config.confusion, program.costs)
    check_functions(method, program.facts(statistics, nothing))


def _check_structure(method: Method, program: Program[Settings]) -> None:
    """Refuse a structure whose part or terms this network, or what is left of it, cannot serve."""
    structure, config, classes = method.structure, program.config, program.dataset.classes
    if structure.part:
        spec = spec_of(config.model, classes.number)
        part: Any = {"part": structure.part, "families": classes.families}
        try:
            nnx.eval_shape(lambda: build(config.model.name, spec, rngs=nnx.Rngs(0), **part))
        except UserError as error:
            raise UserError(f"{method.title}: {error}") from error
    crops = bool(structure.part) and issubclass(PARTS[structure.part], ImagePart)
    if (structure.views or crops) and program.cut is not None:
        done = "crops" if crops else "cuts into blocks"
        raise UserError(
            f"{method.title}: model.frozen={config.model.frozen} leaves no images, which this method {done}; "
            'set model.frozen=""'
        )
    if structure.views:
        _check_views(method, program)
    if not structure.part and "map" not in structure.taps:
        return
    state, cut = program.abstract_state().in_use, program.cut
    taps = structure.taps if crops else ("map",)

    def extras(state: Any, images: Any) -> Any:
        network = nnx.merge(program.graph, *state)
        if cut is not None and cut > len(network.blocks):
            raise UserError(
                f"{method.title}: model.frozen={config.model.frozen} leaves features and no map, which"
                f" this method needs; freeze at most {len(network.blocks)} blocks"
            )
        try:
            return observed(network, images, cut=cut, taps=taps)[1]
        except UserError as error:
            raise UserError(f"{method.title}: {error}") from error

    found = jax.eval_shape(extras, state, program.abstract_batch()["image"])
    shapes = {name: array.shape for name, array in found.items()}
    for term in structure.terms:
        reason = refusal_of(term, classes.number, shapes)
        if reason:
            raise UserError(f"{method.title}: {reason}")


def _check_views(method: Method, program: Program[Settings]) -> None:
    """Refuse what is to be done to images where they have no such size."""
    images, key = program.abstract_batch()["image"], jax.random.key(0)
    for view in method.structure.views:
        try:
            jax.eval_shape(VIEWS[view], images, key)
        except UserError as error:
            raise UserError(f"{method.title}: {error}") from error
