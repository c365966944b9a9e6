"""Draw handwritten-like characters: letters of installed fonts, as strokes of a pen of random width, warped.

    python experiments/draw_characters.py --out=DIR
    cdml train --config=own_images --config.source=folder:DIR --workdir=runs/characters

DIR gets a folder for each character: 200 of the Latin, Greek, Cyrillic, Armenian, Georgian and Arabic scripts
and of mathematics, 20 images each, 105 x 105 pixels, black on white. Of characters that look alike once their
sizes are equal (o and O, Latin A and Greek Alpha) one is drawn. The same fonts and seed give the same images.
"""

from __future__ import annotations

import argparse
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

SIDE = 105
_RANGES = ((0x41, 0x250), (0x370, 0x590), (0x621, 0x64B), (0x10D0, 0x10F6), (0x2200, 0x2300))
_DRAWN = 256  # side of the picture that strokes are found in
_ALIKE = 0.8  # share of two characters' strokes in common, from which they count as one


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--characters", type=int, default=200)
    parser.add_argument("--images", type=int, default=20, help="of each character")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    fonts = _fonts()
    for letter in _distinct(fonts, options.characters, rng):
        folder = options.out / unicodedata.name(letter).replace(" ", "-").lower()
        folder.mkdir(parents=True)
        able = [file for file, letters in fonts.items() if ord(letter) in letters]
        for number in range(options.images):
            image = _written(_strokes(able[rng.integers(len(able))], letter), rng)
            cv2.imwrite(str(folder / f"{number:02}.png"), image)


def _fonts() -> dict[str, set[int]]:
    """Files of fonts, in the order of their names, with the characters of each."""
    installed = {entry.fname for entry in font_manager.fontManager.ttflist} | {
        *font_manager.findSystemFonts()
    }
    by_name = {Path(file).name: file for file in sorted(installed)}
    chosen = [by_name[name] for name in sorted(by_name) if name.startswith(("DejaVuS", "STIXGen"))]
    return {file: set(TTFont(file).getBestCmap()) for file in chosen}


def _distinct(fonts: dict[str, set[int]], number: int, rng: np.random.Generator) -> Iterator[str]:
    """Characters in random order, no two of which look alike."""
    reference = next(file for file in fonts if Path(file).name == "DejaVuSans.ttf")
    letters = [
        chr(code)
        for first, last in _RANGES
        for code in range(first, last)
        if code in fonts[reference]
        and unicodedata.category(chr(code)) in ("Lu", "Ll", "Lo", "Sm")
        and not unicodedata.decomposition(chr(code))
    ]
    seen: list[np.ndarray] = []
    for place in rng.permutation(len(letters)):
        drawn = cv2.dilate(_strokes(reference, letters[place]), np.ones((9, 9), np.uint8)) > 0
        if all((drawn & other).sum() < _ALIKE * min(drawn.sum(), other.sum()) for other in seen):
            seen.append(drawn)
            yield letters[place]
            if len(seen) == number:
                return
    raise SystemExit(f"the installed fonts have {len(seen)} characters that differ, not {number}")


def _strokes(file: str, letter: str) -> np.ndarray:
    """The lines in the middle of a letter's strokes, uint8 (_DRAWN, _DRAWN), 255 on 0, of one size."""
    font = ImageFont.truetype(file, 200)
    left, top, right, bottom = font.getbbox(letter)
    glyph = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(glyph).text((-left, -top), letter, fill=255, font=font)
    room = 0.75 * _DRAWN
    scale = min(room / glyph.width, room / glyph.height)
    size = max(1, round(glyph.width * scale)), max(1, round(glyph.height * scale))
    whole = Image.new("L", (_DRAWN, _DRAWN))
    whole.paste(glyph.resize(size), ((_DRAWN - size[0]) // 2, (_DRAWN - size[1]) // 2))
    left_over = np.where(np.asarray(whole) > 127, 255, 0).astype(np.uint8)
    lines = np.zeros_like(left_over)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    while left_over.any():  # Lantuéjoul's skeleton: what opening takes away, at each erosion
        lines |= left_over & ~cv2.morphologyEx(left_over, cv2.MORPH_OPEN, cross)
        left_over = cv2.erode(left_over, cross)
    return lines


def _written(strokes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The strokes by a pen of random width and a hand that shakes and slants: uint8 (SIDE, SIDE)."""
    width = int(rng.integers(7, 14))
    pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    turn, slant = np.deg2rad(rng.normal(0, 6)), rng.normal(0, 0.15)
    stretch = np.exp(rng.normal(0, 0.12, 2))
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = matrix @ np.array([[1, slant], [0, 1]]) @ np.diag(stretch)
    y, x = np.mgrid[:_DRAWN, :_DRAWN].astype(np.float32)
    centre = (_DRAWN - 1) / 2
    shake = [cv2.GaussianBlur(rng.normal(0, 1, y.shape), (0, 0), 25) for _ in range(2)]
    shake = [field / field.std() * 5 for field in shake]
    points = np.stack([x - centre, y - centre], -1) @ matrix.T
    shift = rng.normal(0, 6, 2)
    x = (points[..., 0] + centre + shift[0] + shake[0]).astype(np.float32)
    y = (points[..., 1] + centre + shift[1] + shake[1]).astype(np.float32)
    drawn = cv2.remap(cv2.dilate(strokes, pen), x, y, cv2.INTER_LINEAR)
    return 255 - cv2.resize(drawn, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


if __name__ == "__main__":
    main()
