"""A run on disk: everything that it needs to continue exactly, by Orbax."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils.epath import Path
from orbax.checkpoint._src.metadata import array_metadata_store as metadata_store

from cdml_jax.configuration.settings import Settings
from cdml_jax.confusion import Confusion, Statistics
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.distributed import processes
from cdml_jax.errors import UserError
from cdml_jax.runs import opening, stored
from cdml_jax.runs.checksums import checksums
from cdml_jax.system import console, files
from cdml_jax.system.buckets import in_bucket
from cdml_jax.system.trees import named_leaves
from cdml_jax.training.state import TrainState

if TYPE_CHECKING:
    from cdml_jax.training.program import Program

_WORTH_SHARING = 2**20  # bytes of an array for each replica; smaller arrays are written by one replica


@dataclasses.dataclass
class Run:
    """A run in progress.

    Attributes:
      state: on the devices.
      counts: the confusion of the epochs so far, with decay, as the storage keeps it, float32.
      statistics: rates and pair weights that the current epoch uses.
      epoch, step_in_epoch: where it stands.
      history: one entry an epoch, as logged.
      seconds: of training so far.
    """

    state: TrainState
    counts: Confusion
    statistics: Statistics
    epoch: int = 0
    step_in_epoch: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0


class Checkpoints:
    """The newest checkpoints of one run, in `folder`; saving is asynchronous."""

    def __init__(self, folder: Path, *, keep: int):
        self.folder = files.absolute(folder)
        self._keep = keep
        self._opened: ocp.CheckpointManager | None = None

    @property
    def _manager(self) -> ocp.CheckpointManager:
        # Opened at the first use: a short run that saves nothing does not pay for it.
        if self._opened is None:
            stored.quiet_orbax()
            try:
                self._opened = ocp.CheckpointManager(
                    self.folder,
                    options=ocp.CheckpointManagerOptions(max_to_keep=self._keep, create=True),
                    item_handlers={"run": _arrays_handler(), "meta": ocp.JsonCheckpointHandler()},
                )
            except OSError as error:
                raise UserError(
                    f"checkpoints cannot be kept in {self.folder}: {error.strerror or error}"
                ) from error
        return self._opened

    def latest(self) -> int | None:
        """Step of the newest checkpoint, or None."""
        return self._manager.latest_step() if self._opened or self.folder.exists() else None

    def save(self, run: Run) -> None:
        """Begin to write the run; a step that is there already is left alone.

        Raises:
          UserError: as `write`.
        """
        arrays = _arrays(run)
        about = {
            "epoch": run.epoch,
            "step_in_epoch": run.step_in_epoch,
            "history": run.history,
            "seconds": run.seconds,
            "devices": jax.tree.leaves(run.state.counts)[0].sharding.mesh.shape[mesh_lib.DATA],
            "layout": _layout(arrays),
        }
        self.write(int(run.state.step), arrays, about)

    def write(self, step: int, arrays: dict[str, Any], about: dict[str, Any]) -> None:
        """Begin to write arrays with their checksums; a step that is there already is left alone.

        Raises:
          UserError: this checkpoint, or the one before, cannot be written; or the folder is gone.
        """
        # Orbax would make it again, wherever that is; a bucket has no folder before the first save.
        if self._opened and not (in_bucket(self.folder) or self.folder.is_dir()):
            raise UserError(
                f"{self.folder} is gone since the run began: moved, deleted, or its disk was lost; bring it "
                "back, then run the same command again"
            )
        if self.latest() == step:
            return
        meta = about | {"checksums": checksums(arrays)}
        meta["digest"] = stored.digest(meta)
        manager = self._manager
        with self._writing():
            manager.save(
                step,
                args=ocp.args.Composite(run=ocp.args.PyTreeSave(arrays), meta=ocp.args.JsonSave(meta)),
            )

    def forget_after(self, step: int) -> None:
        """Delete the checkpoints of later steps."""
        for later in self._manager.all_steps() if self._opened or self.folder.exists() else ():
            if later > step:
                self._manager.delete(later)

    def restore(self, program: Program[Settings]) -> Run | None:
        """The newest run that is whole, or None where there is none.

        A damaged checkpoint is named on standard error and left aside, as `damaged-STEP`. What a killed run
        left half-written is removed.

        Raises:
          UserError: there are checkpoints, and all are damaged; or one cannot be opened, or is of another
            network or data set.
        """
        self.remove_half_written()
        steps, damaged = opening.checkpoints_in(self.folder), []
        if not steps:
            left = opening.left_aside(self.folder) if self.folder.is_dir() else []
            if left:
                raise UserError(
                    f"{self.folder} holds no whole checkpoint, but {', '.join(left)}: bring a copy back, or "
                    "delete the workdir to start again"
                )
            return None
        for step in reversed(steps):
            run, reason = None, "another process could not read it"
            try:
                run = self._restore(step, program)
            except UserError:
                raise
            except Exception as error:  # whatever Orbax and its storage raise on damaged files
                opening.refuse_unopened(self.folder / str(step), error)
                reason = opening.reason_of(error)
            if not processes.largest(run is None):
                return run
            console.warn(f"checkpoint {step} in {self.folder} is damaged: {reason}")
            damaged.append(step)
            self._leave_aside(step)
        raise UserError(
            f"{self.folder}: none of the checkpoints {', '.join(map(str, damaged))} can be read; "
            "delete the workdir to start again"
        )

    def remove_half_written(self) -> None:
        """Remove what a run that was killed while it saved has left; nobody else may write here."""
        halves = self._without_halves()
        if halves:
            console.say(
                f"Removed {len(halves)} half-written checkpoint{'s' if len(halves) > 1 else ''} of a run "
                f"that was killed ({halves[0].name})"
            )
        processes.wait_for_all("half-written")

    def _without_halves(self) -> list[Path]:
        """The half-written checkpoints that were removed, by the first process."""
        halves = opening.half_written(self.folder)
        for half in halves if processes.is_first() else ():
            # What stays is removed at the next start: Orbax's threads may still write there.
            with contextlib.suppress(OSError):
                half.rmtree()
        return [half for half in halves if not half.exists()] if processes.is_first() else []

    def _leave_aside(self, step: int) -> None:
        if processes.is_first():
            (self.folder / str(step)).rename(self.folder / f"damaged-{step}")
        processes.wait_for_all("left aside")
        self._manager.reload()

    def _restore(self, step: int, program: Program[Settings]) -> Run:
        whole = mesh_lib.replicated(program.mesh)
        meta = stored.read_meta(self.folder / str(step))
        del meta["digest"]
        devices, here = meta.pop("devices"), program.mesh.shape[mesh_lib.DATA]
        expected = meta.pop("checksums")
        stored_layout = meta.pop("layout", None)
        storage = program.storage
        kept, pairs = storage.abstract_kept(devices)
        rates = jax.ShapeDtypeStruct((storage.num_classes,), np.float32, sharding=whole)
        target: dict[str, Any] = {
            "state": program.abstract_state(),
            "counts": kept,
            "rates": rates,
            "pairs": pairs,
        }
        if stored_layout is not None:  # kept since layouts are
            self._check_layout(step, stored_layout, _layout(target))
        if devices != here:
            saved = storage.abstract_saved(target["state"].counts, devices)
            target["state"] = target["state"]._replace(counts=saved)
        how = ocp.checkpoint_utils.construct_restore_args(target)
        restored = self._manager.restore(
            step, args=ocp.args.Composite(run=ocp.args.PyTreeRestore(target, restore_args=how))
        )
        arrays = restored["run"]
        found = checksums(arrays)
        differ = [name for name in found | expected if found.get(name) != expected.get(name)]
        if differ:
            raise ValueError(f"wrong checksum of {', '.join(differ[:3])}")
        state = arrays["state"]
        if devices != here:
            state = state._replace(counts=storage.moved(state.counts))
            if together := program.config.model.batch_norm_devices:
                console.warn(
                    f"model.batch_norm_devices={together}: this run was saved on {devices} devices and goes "
                    f"on with {here}: groups have other rows, so results differ"
                )
        counts, pairs = storage.moved_kept(arrays["counts"], arrays["pairs"])
        return Run(
            state=state,
            counts=counts,
            statistics=Statistics(np.asarray(arrays["rates"]), pairs),
            **meta,
        )

    def _check_layout(self, step: int, there: dict[str, str], here: dict[str, str]) -> None:
        differ = [
            f"{name} is {there.get(name, 'nothing')} there, {here.get(name, 'nothing')} here"
            for name in sorted(
                there.keys() | here.keys(), key=lambda name: (not name.startswith("state.parameters."), name)
            )
            if there.get(name) != here.get(name)
        ]
        if differ:
            raise UserError(
                f"checkpoint {step} in {self.folder} is of another network or data set ({differ[0]}); "
                "choose another --workdir"
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with files.writing(self.folder):
                yield
        except UserError:
            # A checkpoint that was left half-written takes room that the next one needs.
            self._without_halves()
            raise

    def close(self) -> None:
        """Wait until everything is written.

        Raises:
          UserError: the last checkpoint cannot be written.
        """
        if self._opened:
            with self._writing():
                self._opened.wait_until_finished()
            self._opened.close()


def _arrays_handler() -> ocp.PyTreeCheckpointHandler:
    """Writes arrays as Orbax does, but cuts only large ones in pieces for the replicas to share.

    Each cut is a program of its own for each shape and device, whose compilation takes longer than one
    replica takes to write a small array. The store of metadata is Orbax's own, which has no public name.
    """
    arrays = ocp.type_handlers.ArrayHandler(
        min_slice_bytes_for_replica_parallel=_WORTH_SHARING, array_metadata_store=metadata_store.Store()
    )
    registry = ocp.type_handlers.create_type_handler_registry(
        (np.ndarray, ocp.type_handlers.NumpyHandler()), (jax.Array, arrays)
    )
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)


def steps_kept(folder: Path) -> list[int]:
    """Steps of the checkpoints in the workdir `folder`, ascending; they need not be whole."""
    return opening.checkpoints_in(folder / "checkpoints")


def keep_newest(folder: Path) -> None:
    """Delete all checkpoints in the workdir `folder` but the newest: a finished run is not gone back in."""
    if processes.is_first():
        for step in steps_kept(folder)[:-1]:
            (Path(folder) / "checkpoints" / str(step)).rmtree(missing_ok=True)
    processes.wait_for_all("kept")


def _layout(arrays: dict[str, Any]) -> dict[str, str]:
    """Type and shape of each leaf by its name, but for the counts, whose shape goes with the devices."""
    return {
        name: f"{leaf.dtype} {tuple(leaf.shape)}"
        for name, leaf in named_leaves(arrays)
        if not name.startswith("state.counts")
    }


def _arrays(run: Run) -> dict[str, Any]:
    return {
        "state": run.state,
        "counts": run.counts.arrays,
        "rates": run.statistics.rates,
        "pairs": run.statistics.pairs.arrays,
    }
