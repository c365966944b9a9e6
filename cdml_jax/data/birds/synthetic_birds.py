"""`synthetic_birds`: fine-grained images drawn by program, as a TFDS builder that needs no download.

Families share shape and palette; the species of a family differ in one to three small marks, some of them
faint. Pose, place, scale, light, background, twigs in front and grain vary inside a species.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
from collections.abc import Iterator
from typing import ClassVar

import tensorflow_datasets as tfds
from absl import logging as absl_logging
from etils import epath

from cdml_jax.data.birds.sets import CONFIGS, VERSION, BirdSet
from cdml_jax.data.birds.workers import Drawers
from cdml_jax.data.classes import Classes
from cdml_jax.errors import UserError
from cdml_jax.system import console, files
from cdml_jax.system.buckets import in_bucket


def classes(config: str) -> Classes:
    """Species in order of label, and their families, which are contiguous and count from 0.

    >>> demo = classes("demo")
    >>> demo.names[0], demo.families[:6], demo.family_names[0]
    ('green-streaked marsh finch', (0, 0, 0, 0, 1, 1), 'marsh finch')
    """
    species = BirdSet.named(config).species
    return Classes(
        tuple(bird.name for bird in species),
        tuple(bird.family for bird in species),
        tuple(dict.fromkeys(bird.family_name for bird in species)),
    )


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
                    "label": tfds.features.ClassLabel(names=classes(birds.name).names),
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
            self._shown.advance()

    def _download_and_prepare(self, *args, **kwargs) -> None:
        birds = BirdSet.named(self.builder_config.name)
        total = len(birds.species) * sum(birds.per_species.values())
        with (
            console.progress(f"Drawing synthetic_birds/{birds.name}", total) as self._shown,
            Drawers(birds, self.num_workers) as self._drawers,
        ):
            super()._download_and_prepare(*args, **kwargs)


def prepare(config: str, data_dir: str | os.PathLike, *, num_workers: int = 2) -> SyntheticBirds:
    """The builder of a set, with its images drawn and stored under `data_dir` if they are not yet.

    Read it without TensorFlow: `prepare(...).as_data_source("train")`. Processes that prepare the same set
    wait for one another; what an interrupted preparation left behind is removed.

    Args:
      config: a key of `CONFIGS`.
      data_dir: TFDS's folder.
      num_workers: processes that draw; the stored bytes do not depend on it.

    Raises:
      UserError: an unknown set, fewer than one worker, or a folder that cannot be written.
    """
    birds = BirdSet.named(config)
    if num_workers < 1:
        raise UserError(f"num_workers: {num_workers} is too few; give 1 or more")
    root = files.path_of(data_dir)
    if in_bucket(root):
        raise UserError(f"data_dir: {root}: birds are drawn on a disk of this machine; give a folder of it")
    if root.exists() and not root.is_dir():
        raise UserError(f"data_dir: {root} is a file; give a folder")
    builder = _builder(birds, root)
    if _is_prepared(builder):
        return builder
    with _alone(root, birds):
        builder = _builder(birds, root)  # another process may have finished meanwhile
        if not _is_prepared(builder):
            _draw(builder, num_workers)
    return builder


def _draw(builder: SyntheticBirds, num_workers: int) -> None:
    # TFDS writes beside the final folder and renames at the end; under the lock, leftovers are nobody's
    folder = epath.Path(builder.data_dir).parent
    for entry in list(folder.iterdir()) if folder.exists() else []:
        if entry.name.startswith("incomplete"):
            shutil.rmtree(entry)
    builder.num_workers = num_workers
    with _quiet():
        builder.download_and_prepare()


@contextlib.contextmanager
def _alone(root: epath.Path, birds: BirdSet) -> Iterator[None]:
    """Waits for other processes that draw the same set.

    Raises:
      UserError: the folder cannot be written.
    """
    folder = root / SyntheticBirds.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"data.data_dir: {root} cannot be written ({reason}); set CDML_DATA_DIR") from error
    with files.locked(folder / f".{birds.name}.lock", busy=None):
        yield


def _builder(birds: BirdSet, root: epath.Path) -> SyntheticBirds:
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
