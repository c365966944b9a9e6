"""`cdml predict`: the likeliest classes of images."""

from __future__ import annotations

import argparse
import csv
import io
import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from etils.epath import Path

from cdml_jax.cli import arguments
from cdml_jax.cli.images import Notes, images_of, trained_run
from cdml_jax.cli.output import as_json
from cdml_jax.errors import UserError
from cdml_jax.system import console
from cdml_jax.system.files import absolute, has_room_for_files

if TYPE_CHECKING:
    import numpy as np

    from cdml_jax.inference.trained_run import Guess, Outputs, TrainedRun

TEXT = "name the likeliest classes of images, and what each is usually confused with"
UNKNOWN = "unknown"
_TOP = 5  # classes of an image that a page has


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    parser = arguments.add(commands, "predict", TEXT)
    arguments.add_workdir(parser)
    parser.add_argument(
        "images", nargs="+", type=arguments.path, metavar="IMAGE", help="a file, or a folder of them"
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="how many classes (5)")
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.0,
        metavar="P",
        help=f"call an image {UNKNOWN} where no class has at least this probability (0: never); cdml "
        "evaluate prints how many images some thresholds leave, and how many of those are right",
    )
    parser.add_argument(
        "--page",
        type=arguments.path,
        metavar="FILE.html",
        help="write a page of the images and their answers too (needs the extra report)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object a line")
    form.add_argument(
        "--csv", action="store_true", help="a table of comma-separated values, one row an image"
    )


def run(options: argparse.Namespace) -> int:
    """Print the classes; returns the exit status: 0, or 2 if some image could not be read."""
    arguments.refuse("predict", options.rest)
    if options.top < 1:
        raise UserError(f"--top: must be at least 1, not {options.top}")
    if not 0 <= options.threshold <= 1:
        raise UserError(f"--threshold: must be a probability, from 0 to 1, not {options.threshold}")
    if options.page is not None:
        _refuse_page(options.page)
    trained = trained_run(options.workdir, best=options.best)
    given = images_of(options.images)
    top = min(options.top, trained.classes.number)
    form = _Json() if options.json else _Csv(top) if options.csv else _Lines()
    failed, unknown, notes = not given.whole, 0, Notes("predict")
    seen: list[_Seen] = []
    # Results go to the terminal as they come: there they are the progress.
    quiet = sys.stdout.isatty()
    with console.progress("Predicting", len(given.files), shown=not quiet) as shown:
        for file, outputs in zip(given.files, trained.each(given.files, note=notes), strict=True):
            if isinstance(outputs, UserError):
                failed = True
                shown.warn(str(outputs))
                form.failed(str(file), str(outputs))
            else:
                guesses = trained.guesses(outputs.logits, top=top)
                known = guesses[0].probability >= options.threshold
                unknown += not known
                form.guessed(str(file), guesses, known)
                if options.page is not None:
                    seen.append(_seen(str(file), outputs, trained.temperature))
            shown.advance()
    notes.say()
    if unknown:
        console.hint(
            f"{UNKNOWN}: {unknown:,} of {len(given.files):,} images, which have no class with a "
            f"probability of {options.threshold} or more"
        )
    if options.page is not None:
        _write_page(options.page, options.workdir, trained, seen)
    run_folder = shlex.quote(str(options.workdir))
    console.hint(f"Next: cdml embed --workdir={run_folder} FOLDER --out=embeddings.npz")
    return 2 if failed else 0


def _refuse_page(page: Path) -> None:
    """Refuse a page that cannot be written, before anything slow.

    Raises:
      UserError: what it needs is not installed, or its name or folder is not right.
    """
    from cdml_jax.cli.actions.page import why_not

    if page.suffix != ".html":
        raise UserError(f"--page: {page} does not end in .html")
    if not has_room_for_files(absolute(page).parent):
        raise UserError(f"--page: there is no folder {page.parent}")
    left_out = why_not()
    if left_out:
        raise UserError(f"--page: {left_out}")


class _Seen(NamedTuple):
    """What a page keeps of an image: its likeliest classes, not all of them."""

    file: str
    classes: np.ndarray
    probabilities: np.ndarray
    embedding: np.ndarray


def _seen(file: str, outputs: Outputs, temperature: float) -> _Seen:
    logits = outputs.logits.astype("float64") / temperature
    top = (-logits).argsort(kind="stable")[:_TOP]
    largest = logits.max()
    shares = math.e ** (logits - largest)
    return _Seen(file, top, shares[top] / shares.sum(), outputs.embeddings)


def _write_page(page: Path, workdir: Path, trained: TrainedRun, seen: Sequence[_Seen]) -> None:
    """The page of the images that could be read."""
    import numpy as np  # here, as above

    from cdml_jax.reporting.page.unlabelled import write_unlabelled
    from cdml_jax.runs.evaluation import neighbourhood

    if not seen:
        console.warn("no page is written: no image could be read")
        return
    near = neighbourhood(np.stack([each.embedding for each in seen]))
    written = write_unlabelled(
        page,
        run=str(workdir),
        names=[each.file for each in seen],
        class_names=trained.class_names,
        top_classes=np.stack([each.classes for each in seen]),
        top_probabilities=np.stack([each.probabilities for each in seen]),
        neighbours=near.neighbours if near else None,
        similarities=near.similarities if near else None,
        places=near.map if near else None,
        open_image=lambda name: Path(name).read_bytes(),
    )
    console.hint(f"Page: {written}")


class _Lines:
    """For people."""

    def guessed(self, file: str, guesses: Sequence[Guess], known: bool) -> None:
        called = "" if known else f"  {UNKNOWN}; the likeliest classes:"
        console.result("\n".join([console.escaped(file) + called, *_table(guesses)]))

    def failed(self, file: str, error: str) -> None:
        pass  # the warning has said it


class _Json:
    """One object a line."""

    def guessed(self, file: str, guesses: Sequence[Guess], known: bool) -> None:
        console.result(as_json({"image": file, "known": known, "classes": [_plain(g) for g in guesses]}))

    def failed(self, file: str, error: str) -> None:
        console.result(as_json({"image": file, "error": error}))


class _Csv:
    """A row an image, as spreadsheets read them (RFC 4180)."""

    def __init__(self, top: int):
        self._top = top
        more = [name for place in range(1, top + 1) for name in (f"class_{place}", f"probability_{place}")]
        self._row(["image", "answer", *more, "error"])

    def guessed(self, file: str, guesses: Sequence[Guess], known: bool) -> None:
        shown = [text for guess in guesses for text in (guess.class_name, f"{guess.probability:.6f}")]
        self._row([file, guesses[0].class_name if known else UNKNOWN, *shown, ""])

    def failed(self, file: str, error: str) -> None:
        self._row([file, "", *[""] * (2 * self._top), error])

    def _row(self, values: Sequence[str]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow([console.escaped(value) for value in values])
        console.result(line.getvalue())


def _plain(guess: Guess) -> dict:
    taken_for = [{"name": name, "share": round(share, 4)} for name, share in guess.taken_for]
    return {"name": guess.class_name, "probability": round(guess.probability, 6), "taken_for": taken_for}


def _table(guesses: Sequence[Guess]) -> Iterator[str]:
    names = [console.escaped(guess.class_name) for guess in guesses]
    width = max(map(len, names))
    for guess, class_name in zip(guesses, names, strict=True):
        others = ", ".join(f"{console.escaped(name)} ({share:.0%})" for name, share in guess.taken_for)
        taken_for = f"  often taken for: {others}" if others else ""
        yield f"  {guess.probability:6.1%}  {class_name:{width}}{taken_for}".rstrip()
