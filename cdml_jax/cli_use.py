"""`cdml predict | embed | export`: a trained run on a person's images, and out of here."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdml_jax.errors import UserError
from cdml_jax.system.files import writing

if TYPE_CHECKING:
    from cdml_jax.inference import Guess, TrainedRun

COMMANDS = ("predict", "embed", "export")


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Their flags."""
    predict = _add(
        commands,
        "predict",
        "name the likeliest classes of images, and what each is usually confused with",
    )
    predict.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a file, or a folder of them")
    predict.add_argument("--top", type=int, default=5, metavar="N", help="how many classes (5)")
    predict.add_argument("--json", action="store_true", help="one JSON object a line")
    embed = _add(commands, "embed", "write the embeddings of the images in a folder")
    embed.add_argument("folder", type=Path, metavar="FOLDER", help="searched to any depth")
    embed.add_argument("--out", type=Path, metavar="FILE.npz", required=True, help="paths and embeddings")
    embed.add_argument("--logits", action="store_true", help="write the logits too")
    export = _add(commands, "export", "write the network as one file that JAX runs without this package")
    export.add_argument("--out", type=Path, metavar="FILE", required=True, help="names go to FILE.json")


def _add(commands: argparse._SubParsersAction, name: str, text: str) -> argparse.ArgumentParser:
    sub = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
    )
    sub.add_argument("--workdir", type=Path, metavar="DIR", required=True, help="of the trained run")
    return sub


def run_command(options: argparse.Namespace, rest: list[str]) -> int:
    """Run one of `COMMANDS`; returns the exit status: 0, or 2 if some image could not be read."""
    if rest:
        raise UserError(f"{options.command}: unknown argument {rest[0]!r}")
    if options.command == "predict" and options.top < 1:
        raise UserError(f"--top: must be at least 1, not {options.top}")
    from cdml_jax.inference import load
    from cdml_jax.training.compiled import keep_compiled

    run = load(options.workdir)
    keep_compiled(run.config.compilation_cache)
    if options.command == "predict":
        return _predict(run, options)
    if options.command == "embed":
        return _embed(run, options)
    from cdml_jax.exporting import beside, export

    platforms = export(run, options.out)
    size = options.out.stat().st_size / 2**20
    print(f"{options.out}: {size:.1f} MiB, runs on {', '.join(platforms)}. Names: {beside(options.out)}")
    return 0


def _predict(run: TrainedRun, options: argparse.Namespace) -> int:
    files = [file for path in options.images for file in (_images(path) if path.is_dir() else [path])]
    failed = False
    for file, outputs in zip(files, run.each(files), strict=True):
        if isinstance(outputs, UserError):
            failed = True
            print(f"cdml: {outputs}", file=sys.stderr)
            if options.json:
                print(json.dumps({"image": str(file), "error": str(outputs)}, ensure_ascii=False))
            continue
        guesses = run.guesses(outputs.logits, top=options.top)
        if options.json:
            print(
                json.dumps({"image": str(file), "classes": [_plain(g) for g in guesses]}, ensure_ascii=False)
            )
        else:
            print("\n".join([str(file), *_lines(guesses)]))
    return 2 if failed else 0


def _plain(guess: Guess) -> dict:
    taken_for = [{"name": name, "share": round(share, 4)} for name, share in guess.taken_for]
    return {"name": guess.class_name, "probability": round(guess.probability, 6), "taken_for": taken_for}


def _lines(guesses: list[Guess]) -> Iterator[str]:
    width = max(len(guess.class_name) for guess in guesses)
    for guess in guesses:
        others = ", ".join(f"{name} ({share:.0%})" for name, share in guess.taken_for)
        taken_for = f"  often taken for: {others}" if others else ""
        yield f"  {guess.probability:6.1%}  {guess.class_name:{width}}{taken_for}".rstrip()


def _embed(run: TrainedRun, options: argparse.Namespace) -> int:
    import numpy as np
    from tqdm import tqdm

    if not options.folder.is_dir():
        raise UserError(f"embed: there is no folder {options.folder}")
    if not options.out.absolute().parent.is_dir():
        raise UserError(f"--out: there is no folder {options.out.parent}")
    files = _images(options.folder)
    paths, rows = [], []
    bar = tqdm(run.each(files), total=len(files), unit=" images", disable=None, leave=False)
    for file, outputs in zip(files, bar, strict=True):
        if isinstance(outputs, UserError):
            print(f"cdml: {outputs}; left out", file=sys.stderr)
            continue
        paths.append(file.relative_to(options.folder).as_posix())
        rows.append(outputs if options.logits else outputs._replace(logits=outputs.logits[:0]))
    if not paths:
        raise UserError(f"embed: none of the {len(files)} images in {options.folder} can be read")
    arrays: dict[str, Any] = {
        "paths": np.array(paths),
        "embeddings": np.stack([row.embeddings for row in rows]),
    }
    if options.logits:
        arrays["logits"] = np.stack([row.logits for row in rows])
        arrays["class_names"] = np.array(run.class_names)
    partial = options.out.with_name(f"{options.out.name}.{os.getpid()}.tmp")
    with writing(options.out):
        try:
            with partial.open("wb") as file:
                np.savez(file, **arrays)
            partial.replace(options.out)
        finally:
            partial.unlink(missing_ok=True)
    print(
        f"{options.out}: {len(paths)} of {len(files)} images, embeddings of {rows[0].embeddings.size} numbers"
    )
    return 0 if len(paths) == len(files) else 2


def _images(folder: Path) -> list[Path]:
    """The image files below a folder, in the order of their paths; hidden ones are left out."""
    from cdml_jax.data.images.decoding import EXTENSIONS

    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in EXTENSIONS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not found:
        raise UserError(f"{folder}: no image in it ({', '.join(sorted(EXTENSIONS))})")
    return sorted(found)
