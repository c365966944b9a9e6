"""Photographs of three classes in two families, nested unevenly, as a person's folder is."""

import cv2
import numpy as np


def photograph(index, rng):
    """A noisy image of class number `index`."""
    image = np.full((20, 24, 3), 60 * index + 40) + rng.normal(0, 25, (20, 24, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def write_photographs(folder, number, rng):
    """`number` images of each class."""
    for index, name in enumerate(["finches/red finch", "finches/pink finch", "owl"]):
        (folder / name).mkdir(parents=True)
        for k in range(number):
            cv2.imwrite(str(folder / name / f"{k}.png"), photograph(index, rng))
