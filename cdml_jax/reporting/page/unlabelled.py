"""The page of images without labels that a trained run has looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from etils.epath import Path

from cdml_jax.reporting.page.data import as_text, thousandths
from cdml_jax.reporting.page.document import INSIDE, choices, placed, rendered
from cdml_jax.reporting.page.drawings import LOOKS
from cdml_jax.reporting.page.pictures import small_pictures
from cdml_jax.reporting.page.shown import MOST_IMAGES, Open, Picture
from cdml_jax.system import console
from cdml_jax.system.files import write_text

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_SPLIT = "predicted"


def write_unlabelled(
    path: Path,
    *,
    run: str,
    names: Sequence[str],
    class_names: Sequence[str],
    top_classes: Int[np.ndarray, "images top"],
    top_probabilities: Float[np.ndarray, "images top"],
    neighbours: Int[np.ndarray, "images near"] | None,
    similarities: Float[np.ndarray, "images near"] | None,
    places: Float[np.ndarray, "images 2"] | None,
    open_image: Open,
    inside: int = INSIDE,
) -> Path:
    """Write the page of predicted images; returns its path.

    Args:
      path: of the page.
      run: what the trained run is called.
      names: of the images.
      class_names: of the classes.
      top_classes, top_probabilities: the likeliest classes of each image, the likeliest first.
      neighbours, similarities: as `Predictions` has them; None where there are too few images.
      places: on the map; None as above.
      open_image: gives an image by its name.
      inside: bytes of small pictures that the page may hold.

    Raises:
      UserError: it cannot be written.
    """
    kept = min(len(names), MOST_IMAGES)
    if kept < len(names):
        console.warn(f"the page shows the first {kept:,} of {len(names):,} images")
    small = small_pictures([Picture(_SPLIT, name, -1) for name in names[:kept]], open_image)
    sure = top_probabilities[:, 0]
    data: dict[str, Any] = {
        "split": _SPLIT,
        "labelled": False,
        "classes": list(class_names),
        "family": None,
        "order": list(range(len(class_names))),
        "names": list(names[:kept]),
        "labels": [-1] * kept,
        "splits": [],
        "held": kept,
        "total": len(names),
        "methods": [{"key": "", "title": run, "colour": "#0064a0", "seeds": 1, "runs": [0], "counts": []}],
        "first": 0,
        "runs": [
            {"method": 0, "seed": 0, "called": top_classes[:kept, 0].tolist(), "p": thousandths(sure[:kept])}
        ],
        "tops": [
            {
                "run": 0,
                "classes": top_classes[:kept].tolist(),
                "p": [thousandths(row) for row in top_probabilities[:kept]],
                "own": [-1] * kept,
            }
        ],
        "pairs": [],
        "worst": None,
        "looks": LOOKS,
        "near": _near(neighbours, similarities, kept, run),
        "maps": [] if places is None else [_map(places[:kept], run)],
        "suspects": [],
        "copies": small.copies,
        "figures": {},
        "frames": [],
    }
    beside = placed(small.files, path, inside)
    data |= {"thumbs": [], "folder": beside} if beside else {"thumbs": as_text(small.files), "folder": ""}
    lines = [
        f"{len(names):,} images, called by {run}.",
        f"Half of the answers have a probability of {np.median(sure):.0%} or more.",
        f"{(sure < 0.5).mean():.0%} have less than 50 %.",
    ]
    text = rendered(
        "page.html.j2",
        data,
        choices=choices(data, {"unsure": "least sure first", "sure": "surest first"}),
        title="Images and what they are called",
        name="Images and what they are called",
        split=_SPLIT,
        headline=lines,
        notes=["No labels are known: nothing here says how many answers are right."],
        rows=[],
        labelled=False,
        evaluated=True,
        pictured=True,
        mapped=bool(data["maps"]),
        command="",
        settings=[],
        origins=[],
    )
    write_text(path, text)
    return path


def _near(
    neighbours: np.ndarray | None, similarities: np.ndarray | None, kept: int, run: str
) -> dict[str, Any] | None:
    if neighbours is None or similarities is None:
        return None
    found = np.where(neighbours[:kept] < kept, neighbours[:kept], -1)
    shares = np.rint(100 * np.asarray(similarities[:kept], float)).astype(int)
    return {"title": run, "index": found.tolist(), "similarity": shares.tolist()}


def _map(places: np.ndarray, run: str) -> dict[str, Any]:
    points = np.rint(1000 * places.astype(float)).astype(int)
    return {"title": run, "run": 0, "x": points[:, 0].tolist(), "y": points[:, 1].tolist()}
