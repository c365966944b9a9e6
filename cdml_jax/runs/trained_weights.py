"""What the use of a trained run needs of its checkpoint: weights and confusion, nothing of the optimiser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from etils.epath import Path

from cdml_jax.confusion import Confusion, DenseConfusion, TopConfusions
from cdml_jax.errors import UserError
from cdml_jax.runs import opening, stored
from cdml_jax.runs.best import FOLDER
from cdml_jax.system import console, files
from cdml_jax.system.trees import named_leaves

if TYPE_CHECKING:
    from cdml_jax.training.program import Program
    from cdml_jax.training.state import TrainState

Tree = Any


class Weights(NamedTuple):
    """A trained network, on the host.

    Attributes:
      parameters, batch_statistics: as the model is used: the moving averages, where they were kept.
      counts: the confusion of the epochs so far, with decay, float32.
      epoch: how many were trained.
    """

    parameters: Tree
    batch_statistics: Tree
    counts: Confusion
    epoch: int


def restore_weights(folder: Path, parameters: Tree, batch_statistics: Tree, *, best: bool = False) -> Weights:
    """Weights of the newest whole checkpoint in the workdir `folder`; nothing there is changed.

    Args:
      folder: of `cdml train`; the run may still be going on.
      parameters, batch_statistics: shapes of the network's, in its own structure.
      best: those of the best epoch by validation in place of the last.

    Raises:
      UserError: there is no checkpoint, one cannot be opened, none is whole, or it is of another network.
    """
    stored.quiet_orbax()
    kept = files.absolute(folder) / (FOLDER if best else "checkpoints")
    steps = opening.checkpoints_in(kept)
    if best and not steps:
        raise UserError(
            f"--best: {folder} keeps no best epoch: `cdml train` keeps one, where there are validation "
            "images; the runs of a table are compared at their last step"
        )
    if not steps:
        left = opening.left_aside(kept) if kept.is_dir() else []
        if left:
            raise UserError(f"{kept} holds no whole checkpoint, but {', '.join(left)}: bring a copy back")
        raise UserError(f"--workdir: {folder} holds no checkpoint yet; train first")
    for step in reversed(steps):
        try:
            return _restored(kept / str(step), parameters, batch_statistics)
        except UserError:
            raise
        except Exception as error:  # whatever Orbax and its storage raise on damaged files
            opening.refuse_unopened(kept / str(step), error)
            reason = opening.reason_of(error)
            console.warn(f"checkpoint {step} in {kept} is damaged: {reason}")
    raise UserError(
        f"{kept}: none of the checkpoints {', '.join(map(str, reversed(steps)))} can be read; bring their "
        "files back, or train again in another workdir"
    )


def restore_for_evaluation(
    folder: Path, program: Program[Any], *, best: bool = False
) -> tuple[TrainState, int]:
    """The trained network of a workdir as a state that can be evaluated, and how many epochs it was trained.

    Whatever method trained it: nothing of the optimiser or of the method's own terms is read.

    Args:
      folder: the workdir; nothing there is changed.
      program: of the run's settings.
      best: as `restore_weights` takes it.

    Returns:
      A state whose parameters and statistics, as the model is used, lie on the program's devices; all else
      in it is abstract.

    Raises:
      UserError: as `restore_weights`.
    """
    state, shardings = program.abstract_state(), program.shardings
    weights = restore_weights(folder, state.parameters, state.batch_statistics, best=best)
    parameters, statistics = jax.device_put(
        (weights.parameters, weights.batch_statistics), (shardings.parameters, shardings.batch_statistics)
    )
    used = state._replace(parameters=parameters, batch_statistics=statistics, averages=())
    return used, weights.epoch


def _restored(path: Path, parameters: Tree, batch_statistics: Tree) -> Weights:
    meta = stored.read_meta(path)
    sums = meta["checksums"]
    averaged = any(name.startswith("state.averages.") for name in sums)
    prefixes = (
        ("state.averages.0", "state.averages.1")
        if averaged
        else ("state.parameters", "state.batch_statistics")
    )
    begins = (*(f"{prefix}." for prefix in prefixes), "counts.")
    arrays = stored.read_arrays(path, sums, lambda name: f"{name}.".startswith(begins))
    found = dict(named_leaves(arrays))
    trees = [
        _fitted(found, tree, prefix, path) for tree, prefix in zip((parameters, batch_statistics), prefixes)
    ]
    counts = arrays["counts"]
    # A matrix may have rows of no class at its end, where its rows were split over devices.
    kept = TopConfusions(**counts) if isinstance(counts, dict) else DenseConfusion(counts[: counts.shape[1]])
    return Weights(trees[0], trees[1], kept, int(meta["epoch"]))


def _fitted(found: dict[str, np.ndarray], tree: Tree, prefix: str, path: Path) -> Tree:
    """The arrays whose names begin so, in the structure of `tree`."""
    leaves = {f"{prefix}.{name}": leaf for name, leaf in named_leaves(tree)}
    there = {name: array for name, array in found.items() if name.startswith(f"{prefix}.")}
    for name in sorted(leaves.keys() | there.keys()):
        mine = f"{leaves[name].shape}" if name in leaves else "nothing"
        theirs = f"{there[name].shape}" if name in there else "nothing"
        if mine != theirs:
            raise UserError(
                f"{path}: the network there is not the one that its config.json describes "
                f"({name} is {theirs} there, {mine} here); was it trained by another version?"
            )
    return jax.tree.unflatten(jax.tree.structure(tree), [there[name] for name in leaves])
