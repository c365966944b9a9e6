"""`cdml predict`: the likeliest classes of images."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cdml_jax.cli import arguments
from cdml_jax.cli.images import Notes, images_of, trained_run
from cdml_jax.cli.output import takes_unicode
from cdml_jax.errors import UserError
from cdml_jax.system import console

if TYPE_CHECKING:
    from cdml_jax.inference.trained_run import Guess

TEXT = "name the likeliest classes of images, and what each is usually confused with"


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    parser = arguments.add(commands, "predict", TEXT)
    arguments.add_workdir(parser)
    parser.add_argument(
        "images", nargs="+", type=arguments.path, metavar="IMAGE", help="a file, or a folder of them"
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="how many classes (5)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(options: argparse.Namespace) -> int:
    """Print the classes; returns the exit status: 0, or 2 if some image could not be read."""
    arguments.refuse("predict", options.rest)
    if options.top < 1:
        raise UserError(f"--top: must be at least 1, not {options.top}")
    trained = trained_run(options.workdir, best=options.best)
    given = images_of(options.images)
    failed, notes = not given.whole, Notes("predict")
    for file, outputs in zip(given.files, trained.each(given.files, note=notes), strict=True):
        if isinstance(outputs, UserError):
            failed = True
            console.warn(str(outputs))
            if options.json:
                console.result(_json({"image": str(file), "error": str(outputs)}))
            continue
        guesses = trained.guesses(outputs.logits, top=options.top)
        if options.json:
            console.result(_json({"image": str(file), "classes": [_plain(g) for g in guesses]}))
        else:
            console.result("\n".join([console.escaped(str(file)), *_lines(guesses)]))
    notes.say()
    run_folder = shlex.quote(str(options.workdir))
    console.hint(f"Next: cdml embed --workdir={run_folder} FOLDER --out=embeddings.npz")
    return 2 if failed else 0


def _json(value: dict[str, Any]) -> str:
    # Neither the stream's escapes, where it lacks a character, nor the console's are JSON's.
    text = json.dumps(value, ensure_ascii=not takes_unicode())
    return "".join(
        letter if letter == console.escaped(letter) else f"\\u{ord(letter):04x}" for letter in text
    )


def _plain(guess: Guess) -> dict:
    taken_for = [{"name": name, "share": round(share, 4)} for name, share in guess.taken_for]
    return {"name": guess.class_name, "probability": round(guess.probability, 6), "taken_for": taken_for}


def _lines(guesses: list[Guess]) -> Iterator[str]:
    names = [console.escaped(guess.class_name) for guess in guesses]
    width = max(map(len, names))
    for guess, class_name in zip(guesses, names, strict=True):
        others = ", ".join(f"{console.escaped(name)} ({share:.0%})" for name, share in guess.taken_for)
        taken_for = f"  often taken for: {others}" if others else ""
        yield f"  {guess.probability:6.1%}  {class_name:{width}}{taken_for}".rstrip()
