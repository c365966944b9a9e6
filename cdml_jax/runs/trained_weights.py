"""What the use of a trained run needs of its checkpoint: weights and confusion, nothing of the optimiser."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils.epath import Path

from cdml_jax.confusion import Confusion, DenseConfusion, TopConfusions
from cdml_jax.errors import UserError
from cdml_jax.runs.checksums import checksums
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


def restore_weights(folder: Path, parameters: Tree, batch_statistics: Tree) -> Weights:
    """Weights of the newest whole checkpoint in the workdir `folder`; nothing there is changed.

    Args:
      folder: of `cdml train`; the run may still be going on.
      parameters, batch_statistics: shapes of the network's, in its own structure.

    Raises:
      UserError: there is no checkpoint, none is whole, or it is of another network.
    """
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax logs what is raised here as well
    kept = files.absolute(folder) / "checkpoints"
    steps = [int(path.name) for path in kept.iterdir() if path.name.isdecimal()] if kept.is_dir() else []
    if not steps:
        raise UserError(f"--workdir: {folder} holds no checkpoint yet; train first")
    for step in sorted(steps, reverse=True):
        try:
            return _restored(kept / str(step), parameters, batch_statistics)
        except UserError:
            raise
        except Exception as error:  # whatever Orbax and its storage raise on damaged files
            reason = " ".join(str(error).split())[:200]
            console.warn(f"checkpoint {step} in {kept} is damaged: {reason}")
    raise UserError(f"{kept}: none of the checkpoints {', '.join(map(str, steps))} can be read")


def restore_for_evaluation(folder: Path, program: Program[Any]) -> tuple[TrainState, int]:
    """The trained network of a workdir as a state that can be evaluated, and how many epochs it was trained.

    Whatever method trained it: nothing of the optimiser or of the method's own terms is read.

    Args:
      folder: the workdir; nothing there is changed.
      program: of the run's settings.

    Returns:
      A state whose parameters and statistics, as the model is used, lie on the program's devices; all else
      in it is abstract.

    Raises:
      UserError: as `restore_weights`.
    """
    state, shardings = program.abstract_state(), program.shardings
    weights = restore_weights(folder, state.parameters, state.batch_statistics)
    parameters, statistics = jax.device_put(
        (weights.parameters, weights.batch_statistics), (shardings.parameters, shardings.batch_statistics)
    )
    used = state._replace(parameters=parameters, batch_statistics=statistics, averages=())
    return used, weights.epoch


def _restored(path: Path, parameters: Tree, batch_statistics: Tree) -> Weights:
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        meta = reader.restore(path / "meta")
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        stored = reader.metadata(path / "run").item_metadata.tree
        state = stored["state"]
        averaged = bool(jax.tree.leaves(state.get("averages")))
        names = ("averages",) if averaged else ("parameters", "batch_statistics")
        wanted = {"state": {name: state[name] for name in names}, "counts": stored["counts"]}
        here = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
        target = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), wanted
        )
        restored = reader.restore(
            path / "run",
            args=ocp.args.PyTreeRestore(
                item=target,
                restore_args=ocp.checkpoint_utils.construct_restore_args(target),
                partial_restore=True,
            ),
        )
    damaged = [name for name, sum_ in checksums(restored).items() if meta["checksums"].get(name) != sum_]
    if damaged:
        raise ValueError(f"wrong checksum of {', '.join(damaged[:3])}")
    prefixes = ("averages.0", "averages.1") if averaged else names
    found = {name: np.asarray(leaf) for name, leaf in named_leaves(restored["state"])}
    trees = [
        _fitted(found, tree, prefix, path) for tree, prefix in zip((parameters, batch_statistics), prefixes)
    ]
    counts = jax.tree.map(np.asarray, restored["counts"])
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
