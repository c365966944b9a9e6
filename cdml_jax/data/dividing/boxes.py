"""A data set whose images are cut out by the boxes of a file."""

from __future__ import annotations

import dataclasses

from cdml_jax.data.dataset import Dataset, Source
from cdml_jax.data.dividing.derived import BoxCropped
from cdml_jax.data.readers.boxes import Box, read_boxes
from cdml_jax.errors import UserError
from cdml_jax.system import console


def cut_out(dataset: Dataset, file: str) -> Dataset:
    """The data set with each image cut out by its box; itself where no file is named.

    Names, labels, splits and digests stay those of the whole images. Boxes of other images are left out.

    Args:
      dataset: of whole images.
      file: of `cdml localize`; "" for none.

    Raises:
      UserError: the file cannot be read, or has no box for some image.
    """
    if not file:
        return dataset
    boxes = read_boxes(file)
    names = [source.name(i) for source in dataset.splits.values() for i in range(len(source))]
    lacking = [name for name in names if name not in boxes]
    if lacking:
        example = next(iter(boxes))
        raise UserError(
            f"data.boxes: {file} has no box for {len(lacking):,} of {len(names):,} images, such as "
            f"{lacking[0]}; its names are such as {example}: give cdml localize the folder that the names "
            "begin in"
        )
    unfound = sum(not boxes[name].found for name in names)
    whole = f"; {unfound:,} of them are whole images, in which no object was found" if unfound else ""
    console.say(f"{dataset.name}: {len(names):,} images are cut out by the boxes of {file}{whole}")
    splits = {split: _cut(source, boxes) for split, source in dataset.splits.items()}
    return dataclasses.replace(dataset, splits=splits)


def _cut(source: Source, boxes: dict[str, Box]) -> Source:
    return BoxCropped(source, [boxes[source.name(i)][:4] for i in range(len(source))])
