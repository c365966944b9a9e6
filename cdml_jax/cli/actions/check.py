"""Everything of a run that is under a digest, read and compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import jax
from etils.epath import Path

from cdml_jax.errors import UserError
from cdml_jax.reporting import results
from cdml_jax.reporting.evaluations import FOLDER
from cdml_jax.runs.checking import Checking, Finding
from cdml_jax.system import console, files
from cdml_jax.system.archives import Archive, DamagedError


def check(folder: Path, changes: Mapping[str, str]) -> int:
    """Print a line for each file or image that is damaged or edited, and how many; gives that number."""
    jax.config.update("jax_platforms", "cpu")  # checksums need no accelerator, which another run may hold
    checking, wrong = Checking(folder, changes), 0
    for finding in [*checking.findings(), *_results(checking)]:
        wrong += 1
        console.result(f"{console.escaped(finding.name)}: {finding.what}")
    read = ", ".join(f"{number:,} {kind}" for kind, number in checking.read.items())
    said = "nothing is damaged or edited" if not wrong else f"{wrong:,} damaged, edited or gone"
    console.result(f"{folder}: {said} (read: {read})")
    return wrong


def show(path: Path) -> None:
    """Print the record of an archive, such as a result, as JSON, with the shapes of its arrays.

    Raises:
      UserError: it is damaged, or no archive of a run.
    """
    try:
        archive = Archive(path)
        arrays = {name: archive[name] for name in archive.names}
    except OSError as error:
        raise UserError(f"--show: {path} cannot be read ({error.strerror or error})") from error
    except DamagedError as error:
        raise UserError(f"--show: {path} is damaged, or is not a result of a run ({error})") from error
    shapes = {name: f"{array.dtype} {array.shape}" for name, array in arrays.items()}
    console.result(json.dumps({"record": archive.record, "arrays": shapes}, indent=1, ensure_ascii=False))


def _results(checking: Checking) -> Iterator[Finding]:
    for path in files.entries(checking.folder / "results"):
        if path.name.endswith(".npz"):
            checking.read["results"] += 1
            try:
                results.load_one(path, embeddings=True)
            except UserError as error:
                yield Finding(str(path), str(error).removeprefix(f"{path} "))
    for path in files.entries(checking.folder / FOLDER):
        if path.name.endswith(".npz"):
            checking.read["evaluations"] += 1
            try:
                Archive(path)
            except (OSError, DamagedError) as error:
                yield Finding(str(path), str(error))
