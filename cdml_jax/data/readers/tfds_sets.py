"""Any prepared TFDS set, by name or by folder, read through its data source and without TensorFlow."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import numpy as np
from etils import epath

from cdml_jax.data.classes import Classes
from cdml_jax.data.dataset import Dataset
from cdml_jax.data.dividing.splits import ALIASES
from cdml_jax.errors import UserError
from cdml_jax.system.buckets import in_bucket
from cdml_jax.system.copies import copied
from cdml_jax.system.files import path_of


class TfdsSource:
    """One split of a prepared TFDS set; its images stay encoded.

    Args:
      builder: a TFDS builder whose data are in array_record files.
      split: a split's name, or a slice or sum of splits as TFDS writes them.
      labels: (n,) the class of each image; None reads every record for it.
      names: what to call the images; None is by the set, the split and the position in it.
    """

    def __init__(
        self, builder: Any, split: str, *, labels: np.ndarray | None = None, names: list[str] | None = None
    ):
        import tensorflow_datasets as tfds

        info = builder.info
        self._image, self._label = _keys(builder)
        features = info.features
        skip = {
            key: tfds.decode.SkipDecoding()
            for key in features
            if isinstance(features[key], tfds.features.Image) or key == self._image
        }
        try:
            self._data = builder.as_data_source(split, decoders=skip)
            parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(info.splits)
        except (ValueError, AssertionError) as error:
            available = ", ".join(info.splits)
            raise UserError(f"{info.name}: split {split!r}: {_line(error)} (it has {available})") from error
        # The position in the whole split, so that train[:60%] and train[50%:] are seen to overlap.
        self._names = [
            (part.splitname, index)
            for part in parts
            for index in range(part.from_ or 0, _stop(part, info.splits[part.splitname].num_examples))
        ]
        files = [epath.Path(str(f)) for s in {p.splitname for p in parts} for f in info.splits[s].filepaths]
        self._stamp = _size_and_change(files)
        self._where = str(builder.data_path)
        self._full_name = info.full_name
        self._given_names = names
        for given in (labels, names):
            if given is not None and len(given) != len(self._data):
                raise UserError(
                    f"{self._where}: {split} has {len(self._data)} images, {len(given)} are listed"
                )
        self.label_names: dict[int, str] = {}
        if labels is None:
            labels = np.empty(len(self._data), np.int32)
            for i in range(len(self._data)):
                record = self._data[i]
                labels[i] = record[self._label]
                if "label_name" in record and int(labels[i]) not in self.label_names:
                    self.label_names[int(labels[i])] = record["label_name"].decode()
        self.labels = np.asarray(labels, np.int32)

    def __len__(self) -> int:
        return len(self._data)

    def image(self, index: int) -> bytes:
        """The encoded image of the record."""
        return self._data[index][self._image]

    def name(self, index: int) -> str:
        """The name it was given, or the set with its version, the split and the position in it."""
        if self._given_names is not None:
            return self._given_names[index]
        split, position = self._names[index]
        return f"{self._full_name} {split}[{position}]"

    def stamp(self, index: int) -> tuple[str, int, int]:
        """The split's folder and the position, the size of all its files and the newest time of change."""
        split, position = self._names[index]
        return f"{self._where}/{split}[{position}]", *self._stamp


def read_tfds(builder: Any, name: str, names: dict[str, str], *, classes: Classes | None = None) -> Dataset:
    """The splits of a prepared TFDS set.

    Args:
      builder: a TFDS builder whose data are in array_record files.
      name: what tables call the set.
      names: the splits' names by role; "" for none. A default name that the set lacks is left out.
      classes: names and families of the classes; None takes the label feature's names.

    Returns:
      The data set.

    Raises:
      UserError: a split that was asked for is not there, or the set has no image and label.
    """
    _, label = _keys(builder)
    has = set(builder.info.splits)
    names = {role: _own_name(role, split, has) for role, split in names.items()}
    splits = {
        role: TfdsSource(builder, split)
        for role, split in names.items()
        if split and (split in has or split != role or role == "train")
    }
    if classes is None:
        # TFDS's own CUB numbers its classes; each image says what its class is called.
        said = {label: name for source in splits.values() for label, name in source.label_names.items()}
        class_names = (
            said.get(number, name).replace("_", " ") if said else name
            for number, name in enumerate(builder.info.features[label].names)
        )
        classes = Classes(tuple(class_names))
    return Dataset(name, classes, splits)


def _own_name(role: str, split: str, has: set[str]) -> str:
    """A default name as the set itself spells it ("val")."""
    choices = ALIASES.get(role, ()) if split == role else ()
    return next((choice for choice in choices if choice in has), split)


def find_builder(name: str, data_dir: epath.Path, *, unknown: str) -> Any:
    """The builder of a TFDS set, prepared.

    Args:
      name: a TFDS name ("oxford_flowers102", "name/config:version") or the folder of a prepared set.
      data_dir: where prepared sets are looked for first; TFDS's own folder is the second place.
      unknown: the message if there is no such set.

    Returns:
      The builder. A set that is not prepared is downloaded and prepared if TensorFlow is installed.

    Raises:
      UserError: no such set, or it is not prepared and cannot be.
    """
    import tensorflow_datasets as tfds

    if not name:
        raise UserError(unknown)
    # A folder's name need not be a version, which TFDS takes for a sign that it was not prepared.
    folder = (path_of(name) / "dataset_info.json").exists()
    try:
        if folder:
            builder = tfds.builder_from_directory(str(path_of(name)))
        else:
            builder = tfds.builder(name, data_dir=str(data_dir))
            if not builder.is_prepared():
                elsewhere = tfds.builder(name)
                builder = elsewhere if elsewhere.is_prepared() else builder
    except tfds.core.DatasetNotFoundError:
        raise UserError(unknown) from None
    except (ValueError, AssertionError, ImportError) as error:
        if "Parsing builder name" in str(error):
            raise UserError(unknown) from None
        raise UserError(f"TFDS set {name!r}: {_line(error)}") from error
    if not folder and not builder.is_prepared():
        builder = _prepare(name, data_dir)
    if in_bucket(builder.data_path):
        builder = tfds.builder_from_directory(str(copied(epath.Path(builder.data_path))))
    if str(builder.info.file_format.file_suffix) != "array_record":
        raise UserError(
            f"TFDS set {name!r} is stored as {builder.info.file_format.file_suffix}; prepare it again with "
            f"`tfds build {name} --file_format=array_record --overwrite`"
        )
    return builder


def _prepare(name: str, data_dir: epath.Path) -> Any:
    import tensorflow_datasets as tfds

    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"TFDS set {name!r} is not prepared in {data_dir}: install cdml_jax[prepare] (TensorFlow, needed "
            f"once) and run `tfds build {name} --data_dir={data_dir} --file_format=array_record`"
        )
    builder = tfds.builder(name, data_dir=str(data_dir), file_format="array_record")
    try:
        builder.download_and_prepare()
    except Exception as error:  # the network, a publisher's page, a manual download: TFDS says which
        raise UserError(f"TFDS set {name!r} could not be prepared: {_line(error)}") from error
    return builder


def _keys(builder: Any) -> tuple[str, str]:
    import tensorflow_datasets as tfds

    features, keys = builder.info.features, builder.info.supervised_keys
    if not (keys and len(keys) == 2 and all(isinstance(key, str) for key in keys)):
        keys = ("image", "label")
    image, label = keys
    if image in features and label in features and isinstance(features[label], tfds.features.ClassLabel):
        return image, label
    raise UserError(f"{builder.info.name} has no image with one class label; it has {', '.join(features)}")


def _size_and_change(files: list[epath.Path]) -> tuple[int, int]:
    """Bytes of all files, and the newest time of change in ns."""
    found = [(status.st_size, status.st_mtime_ns) for status in map(os.stat, files)]
    return sum(size for size, _ in found), max((changed for _, changed in found), default=0)


def _stop(part: Any, count: int) -> int:
    return count if part.to is None else part.to


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
