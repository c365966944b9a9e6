"""The page as one file: a template that escapes, scripts by their digests, small pictures in it or near."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from etils.epath import Path

from cdml_jax.errors import UserError
from cdml_jax.reporting import spreadsheets
from cdml_jax.reporting.page import summary
from cdml_jax.reporting.page.data import as_text, page_data
from cdml_jax.reporting.page.drawings import calibrations
from cdml_jax.reporting.page.pictures import Small, small_pictures
from cdml_jax.reporting.page.shown import MOST_CLASSES, Shown, with_suspects
from cdml_jax.system import console
from cdml_jax.system.files import write_bytes, write_text, writing

INSIDE = 14_000_000
"""Bytes of small pictures that a page holds; more lie in a folder next to it."""
_FOLDER = "_files"


class Written(NamedTuple):
    """What was written: the page, and the files of comma-separated values."""

    page: Path
    files: list[Path]


def write_page(shown: Shown, path: Path, *, inside: int = INSIDE) -> Written:
    """Write the page and, next to it, predictions.csv, classes.csv, pairs.csv and suspects.csv.

    Args:
      shown: what it is made of.
      path: of the page, which ends in .html.
      inside: bytes of small pictures that the page may hold; with more they lie in a folder next to it.

    Returns:
      Where they are.

    Raises:
      UserError: runs of other images, too many classes, or the disk refuses.
    """
    if shown.classes.number > MOST_CLASSES:
        raise UserError(
            f"{shown.classes.number:,} classes are more than the {MOST_CLASSES:,} that a page shows"
        )
    pictures, places = shown.pictures()
    found = shown.suspects()
    images, listed = with_suspects(pictures, places, found, shown.split)
    small = _small(shown, images)
    data = page_data(shown, images, places, listed, small.copies)
    beside = placed(small.files, path, inside)
    data |= {"thumbs": [], "folder": beside} if beside else {"thumbs": as_text(small.files), "folder": ""}
    write_text(path, document(shown, data))
    return Written(path, _files(shown, found, images, small.copies, path.parent))


def _small(shown: Shown, images: Sequence[Any]) -> Small:
    if shown.open is None:
        return Small([], [], (0, ""))
    small = small_pictures(images, shown.open)
    number, why = small.unread
    if number:
        console.warn(
            f"{number:,} of {len(images):,} images cannot be shown on the page, such as one that {why}"
        )
    return small


def placed(files: Sequence[bytes], path: Path, inside: int) -> str:
    """The folder next to the page that has the small pictures, with a slash; "" where the page holds them."""
    folder = path.parent / (path.stem + _FOLDER)
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        if folder.is_dir():
            Path(folder).rmtree()
    if sum(map(len, files)) <= inside:
        return ""
    with writing(folder):
        folder.mkdir()
    for place, file in enumerate(files):
        write_bytes(folder / f"{place}.webp", file)
    console.say(f"The small pictures of {len(files):,} images lie next to the page, in {folder}")
    return f"{folder.name}/"


def _files(
    shown: Shown, found: Sequence[Any], images: Sequence[Any], copies: Sequence[Sequence[int]], folder: Path
) -> list[Path]:
    names = shown.classes.names
    groups = [
        [
            (images[i].split, images[i].name, names[images[i].label] if images[i].label >= 0 else "")
            for i in group
        ]
        for group in copies
    ]
    if shown.epochs_alone:
        return []
    made = [
        spreadsheets.write_predictions(shown.table, shown.split, folder),
        spreadsheets.write_classes(shown.table, shown.split, folder),
        spreadsheets.write_pairs(shown.table, shown.split, folder),
        spreadsheets.write_suspects(
            [(each.split, each.name, each.label, each.suspect) for each in found], groups, names, folder
        ),
    ]
    return [path for path in made if path is not None]


def document(shown: Shown, data: Mapping[str, Any]) -> str:
    """The page's HTML."""
    header, rows = summary.methods_rows(shown) if not shown.epochs_alone else ([], [])
    return rendered(
        "page.html.j2",
        data,
        choices=choices(data, image_choices(shown)),
        title=f"{shown.name}: what is confused with what",
        name=shown.name,
        split=shown.split,
        headline=summary.headline(shown),
        header=header,
        rows=rows,
        captions=summary.captions(shown),
        worst=bool(data["worst"]),
        first=shown.table.titles[shown.first],
        seeds=max(map(len, shown.table.runs.values())),
        several=len(shown.table.runs) > 1,
        mapped=bool(data["maps"]),
        pairs_note=summary.pairs_note(shown) if not shown.epochs_alone else "",
        unseen=summary.unseen(shown),
        notes=list(shown.notes),
        command=shown.command,
        settings=summary.settings_rows(shown),
        origins=summary.origins(shown),
        calibrations=[(title, error) for title, _, error, _ in calibrations(shown)],
        labelled=True,
        evaluated=not shown.epochs_alone,
        pictured=bool(data["thumbs"] or data["folder"]),
    )


def image_choices(shown: Shown) -> dict[str, str]:
    """Which images can be listed."""
    first = shown.table.titles[shown.first]
    compared = {
        "fixed": f"right here, wrong by {first}",
        "broken": f"wrong here, right by {first}",
        "never": "wrong by every run",
    }
    several = len(shown.table.runs) > 1
    return {"wrong": "wrong, surest first"} | (compared if several else {}) | {"all": "all"}


def choices(data: Mapping[str, Any], images: Mapping[str, str]) -> dict[str, list[tuple[Any, str]]]:
    """What can be chosen in each of the page's controls: a value and its words."""
    found: dict[str, list[tuple[Any, str]]] = {
        "method": [(k, method["title"]) for k, method in enumerate(data["methods"])],
        "which": list(images.items()),
        "map": [(k, each["title"]) for k, each in enumerate(data["maps"])],
    }
    return found | {
        kind: [(k, each[0]) for k, each in enumerate(made)] for kind, made in data["figures"].items()
    }


def rendered(template: str, data: Mapping[str, Any], **values: Any) -> str:
    """A template filled with values, which it escapes, and with the script's data.

    Scripts run by their digests alone; nothing is fetched; pictures are in the page or in its folder.
    """
    import jinja2  # here: the extra `report` brings it

    library, script, style = _library(), _own("page.js"), _own("page.css")
    policy = (
        f"default-src 'none'; script-src {digest_of(library)} {digest_of(script)}; "
        "style-src 'unsafe-inline'; img-src data: 'self'; base-uri 'none'; form-action 'none'"
    )
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_own), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(
        policy=policy, library=library, script=script, style=style, data=inert(data), **values
    )


def digest_of(script: str) -> str:
    """The digest by which a content security policy lets a script run."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def inert(data: Mapping[str, Any]) -> str:
    r"""JSON that cannot end the element that holds it, whatever names hold.

    >>> print(inert({"name": "</script>"}))
    {"name":"\u003c/script\u003e"}
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    # Names of files need not be text; half a surrogate pair is none.
    return text.encode(errors="surrogateescape").decode(errors="replace")


@cache
def _library() -> str:
    """Plotly's script as its package brings it."""
    found = importlib.util.find_spec("plotly")
    if found is None or not found.submodule_search_locations:
        raise UserError(
            "no page is written: that needs plotly, which comes with pip install 'cdml_jax[report]'"
        )
    text = (Path(found.submodule_search_locations[0]) / "package_data" / "plotly.min.js").read_bytes()
    # A browser reads line ends so before it takes the digest.
    return text.decode().replace("\r\n", "\n").replace("\r", "\n")


@cache
def _own(name: str) -> str:
    return (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")
