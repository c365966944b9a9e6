"""The picture that shows why the birds are hard to tell apart: a row a species, families together.

    python docs/bird_sheet.py

draws those of the documents again, docs/images/birds_*.png.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from cdml_jax.data.birds.sets import BirdSet
from cdml_jax.data.birds.workers import image

_TILE, _GAP, _LABEL, _TITLE = 88, 3, 178, 40  # pixels
_INK, _PALE = (40, 36, 36), (110, 104, 104)


def contact_sheet(
    config: str, path: Path | str, *, num_families: int = 6, species: int = 4, images: int = 5
) -> None:
    """Writes a picture of some families of a set: a row a species, with its name, several images each.

    The images are those of the training split, but for the grain.

    Args:
      config: a key of `CONFIGS`.
      path: of the PNG file.
      num_families: families shown, spread evenly over the set, two side by side.
      species: so many of each family, of families that have them.
      images: training images of each species.

    Raises:
      UserError: an unknown set.
    """
    birds = BirdSet.named(config)
    # grain does not compress, and a page shows the marks as well without it
    birds = dataclasses.replace(birds, difficulty=dataclasses.replace(birds.difficulty, noise=0.0))
    large = [family for family, size in enumerate(birds.family_sizes) if size >= species]
    spread = np.linspace(0, len(large) - 1, min(num_families, len(large))).round().astype(int)
    chosen = [large[place] for place in spread]
    blocks = [_block(birds, family, species, images) for family in chosen]
    blocks += [np.full_like(blocks[0], 255)] * (len(blocks) % 2)
    rows = [
        np.concatenate([_pad(left, right=28), right], 1) for left, right in zip(blocks[::2], blocks[1::2])
    ]
    sheet = _pad(np.concatenate(rows), 12, 16, 16, 16)
    # and five bits a channel look the same, in half the bytes
    sheet = np.where(sheet == 255, 255, sheet & 0xF8 | 4).astype(np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), sheet[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        raise OSError(f"{path} could not be written")


def _pad(picture: np.ndarray, top: int = 0, right: int = 0, bottom: int = 0, left: int = 0) -> np.ndarray:
    return np.pad(picture, ((top, bottom), (left, right), (0, 0)), constant_values=255)


def _write(picture: np.ndarray, text: str, x: int, y: int, scale: float, ink: tuple[int, int, int]) -> None:
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_DUPLEX, scale, ink, 1, cv2.LINE_AA)


def _block(birds: BirdSet, family: int, species: int, images: int) -> np.ndarray:
    """One family: its name, then a row a species."""
    labels = [label for label, bird in enumerate(birds.species) if bird.family == family][:species]
    name = birds.species[labels[0]].family_name
    width = _LABEL + images * (_TILE + _GAP)
    block = np.full((_TITLE + len(labels) * (_TILE + _GAP), width, 3), 255, np.uint8)
    _write(block, name, 0, 28, 0.75, _INK)
    for row, label in enumerate(labels):
        top = _TITLE + row * (_TILE + _GAP)
        words = birds.species[label].name.removesuffix(name).split() or ["plain"]
        for line, word in enumerate(words):
            _write(block, word, 0, top + _TILE // 2 + 5 + 20 * line - 10 * (len(words) - 1), 0.5, _PALE)
        for column in range(images):
            tile = image(birds, "train", label, column)
            shrink = birds.image_size > _TILE
            how = cv2.INTER_AREA if shrink else cv2.INTER_CUBIC
            tile = cv2.resize(tile, (_TILE, _TILE), interpolation=how)
            left = _LABEL + column * (_TILE + _GAP)
            block[top : top + _TILE, left : left + _TILE] = tile
    return block


if __name__ == "__main__":
    for name in ("demo", "cub_like"):
        contact_sheet(name, Path(__file__).parent / "images" / f"birds_{name}.png")
