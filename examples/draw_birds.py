"""Draw a folder of birds as a person's folder of photographs is: FOLDER/FAMILY/SPECIES/0.jpg.

    python examples/draw_birds.py birds
    python examples/draw_birds.py birds --images=8

FOLDER-new gets one more image of each species, as photographs whose class is not known yet.
"""

import argparse
import dataclasses
from pathlib import Path

import cv2

from cdml_jax.data.birds.sets import BirdSet
from cdml_jax.data.birds.workers import image

FAMILIES, SIZE = 4, 128


def main(folder: Path, images: int) -> int:
    """Writes so many images of each species, and returns how many they are in all."""
    birds = dataclasses.replace(BirdSet.named("demo"), image_size=SIZE)
    species = [bird for bird in birds.species if bird.family < FAMILIES]
    new = folder.with_name(folder.name + "-new")
    new.mkdir(parents=True, exist_ok=True)
    for label, bird in enumerate(species):
        place = folder / bird.family_name / bird.name
        place.mkdir(parents=True, exist_ok=True)
        for number in range(images + 1):
            last = number == images
            file = new / f"{label}.jpg" if last else place / f"{number}.jpg"
            cv2.imwrite(str(file), image(birds, "train", label, number)[..., ::-1])
    return images * len(species)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=30, help="of each species")
    options = parser.parse_args()
    print(f"{main(options.folder, options.images)} images in {options.folder}")
