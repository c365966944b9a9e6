"""`synthetic_birds`: fine-grained images drawn by program, as a TFDS builder that needs no download.

Families share shape and palette; the species of a family differ in one to three small marks, some of them
faint. Pose, place, scale, light, background, twigs in front and grain vary inside a species.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from absl import logging as absl_logging

from cdml_jax.data.bird_sets import CONFIGS, VERSION, BirdSet
from cdml_jax.data.bird_sheet import contact_sheet
from cdml_jax.data.bird_workers import Drawers
from cdml_jax.errors import UserError

__all__ = [
    "CONFIGS",
    "SyntheticBirds",
    "class_names",
    "contact_sheet",
    "families",
    "family_names",
    "prepare",
]


def class_names(config: str) -> tuple[str, ...]:
    """Names of the species, in order of label.

    >>> class_names("demo")[0]
    'green-streaked marsh finch'
    """
    return tuple(species.name for species in BirdSet.named(config).species)


def families(config: str) -> np.ndarray:
    """(C,) int32: the family of every class; families are contiguous and count from 0.

    >>> families("demo")[:6].tolist()
    [0, 0, 0, 0, 1, 1]
    """
    return np.array([species.family for species in BirdSet.named(config).species], np.int32)


def family_names(config: str) -> tuple[str, ...]:
    """Names of the families, in the order in which `families` numbers them."""
    return tuple(dict.fromkeys(species.family_name for species in BirdSet.named(config).species))


class SyntheticBirds(tfds.core.GeneratorBasedBuilder):
    """TFDS builder; `prepare` is the short way to it."""

    name = "synthetic_birds"
    VERSION = tfds.core.Version(VERSION)
    BUILDER_CONFIGS = tuple(
        tfds.core.BuilderConfig(name=birds.name, description=birds.description) for birds in CONFIGS.values()
    )
    num_workers = 1
    url_infos: ClassVar[dict] = {}  # nothing is downloaded; TFDS would look for checksums beside this file

    def _info(self) -> tfds.core.DatasetInfo:
        birds = BirdSet.named(self.builder_config.name)
        size = birds.image_size
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{__doc__.strip()} {birds.description}",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=class_names(birds.name)),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        birds = BirdSet.named(self.builder_config.name)
        return {split: self._generate_examples(split) for split in birds.per_species}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        birds = BirdSet.named(self.builder_config.name)
        for position, data in enumerate(self._drawers.split(split)):
            label = position // birds.per_species[split]
            yield position, {"image": io.BytesIO(data), "label": label}

    def _download_and_prepare(self, *args, **kwargs) -> None:
        with Drawers(BirdSet.named(self.builder_config.name), self.num_workers) as self._drawers:
            super()._download_and_prepare(*args, **kwargs)


def prepare(config: str, data_dir: Path | str, *, num_workers: int = 2) -> SyntheticBirds:
    """The builder of a set, with its images drawn and stored under `data_dir` if they are not yet.

    Read it without TensorFlow: `prepare(...).as_data_source("train")`. Processes that prepare the same set
    wait for one another; what an interrupted preparation left behind is removed.

    Args:
      config: a key of `CONFIGS`.
      data_dir: TFDS's folder.
      num_workers: processes that draw; the stored bytes do not depend on it.

    Raises:
      UserError: an unknown set, or fewer than one worker.
    """
    birds = BirdSet.named(config)
    if num_workers < 1:
        raise UserError(f"num_workers: {num_workers} is too few; give 1 or more")
    root = Path(data_dir).expanduser()
    if root.exists() and not root.is_dir():
        raise UserError(f"data_dir: {root} is a file; give a folder")
    builder = _builder(birds, root)
    if _is_prepared(builder):
        return builder
    with _lock(root / SyntheticBirds.name / f".{birds.name}.lock"):
        builder = _builder(birds, root)  # another process may have finished meanwhile
        # TFDS writes beside the final folder and renames at the end; under the lock, leftovers are nobody's
        for leftover in Path(builder.data_dir).parent.glob("incomplete*"):
            shutil.rmtree(leftover)
        if not _is_prepared(builder):
            builder.num_workers = num_workers
            print(f"Drawing synthetic_birds/{config} into {root}, once", file=sys.stderr, flush=True)
            with _quiet():
                builder.download_and_prepare()
    return builder


def _builder(birds: BirdSet, root: Path) -> SyntheticBirds:
    with _quiet():
        return SyntheticBirds(config=birds.name, data_dir=str(root), file_format="array_record")


def _is_prepared(builder: SyntheticBirds) -> bool:
    with _quiet():
        return builder.is_prepared()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TFDS's bars and remarks about sizes say nothing here that a person needs."""
    level = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            yield
    finally:
        tfds.enable_progress_bar()
        absl_logging.set_verbosity(level)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
