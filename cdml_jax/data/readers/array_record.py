"""A data set as array_record files: a few large files in place of millions of small ones, for clusters.

The folder is a prepared TFDS set, so `tfds:DIR` and other programs read it; beside it lie the names of the
images, the families and what else TFDS has no place for, which `array_record:DIR` reads too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from cdml_jax.data.classes import Classes
from cdml_jax.data.dataset import Dataset, Source
from cdml_jax.data.dividing.derived import BottomCropped, Digested
from cdml_jax.data.dividing.splits import split_checksum
from cdml_jax.errors import UserError
from cdml_jax.system import console, files
from cdml_jax.system.copies import copied

_CARD = "cdml_jax.json"
_VERSION = 1
_SHARD = 4096  # images
_CHUNK = 256  # images read at a time: a shard need not fit in memory
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
# One image a group, to be read in any order; photographs do not compress further.
_OPTIONS = "group_size:1,uncompressed"


def write_records(dataset: Dataset, out: str | os.PathLike) -> None:
    """Writes every image of a data set, its bytes unchanged.

    Each file is written under another name and then renamed, and dataset_info.json comes last: a folder that
    has it is complete. The same call continues one that was stopped, by whole files.

    Args:
      dataset: what to write; the splits under their own names.
      out: the folder, made if missing.

    Raises:
      UserError: the folder holds something else or cannot be written, or an image cannot be read.
    """
    folder = files.path_of(out)
    stored = {s: each.source if isinstance(each, Digested) else each for s, each in dataset.splits.items()}
    dataset = dataclasses.replace(dataset, splits=stored)
    card, listings = _card(dataset), _listings(dataset)
    try:
        _begin(folder, card, listings)
        busy = f"--out: {folder} is being written by another command; wait for it"
        with files.locked(folder / ".lock", busy):
            _write(dataset, folder)
    except OSError as error:
        raise UserError(f"--out: {folder} cannot be written ({error.strerror or error})") from error


def _write(dataset: Dataset, out: epath.Path) -> None:
    import tensorflow_datasets as tfds  # here: it takes a second

    features = _features(dataset.classes.names)
    infos = []
    with console.progress("Writing images", sum(map(len, dataset.splits.values()))) as shown:
        for split, source in dataset.splits.items():
            template = tfds.core.ShardedFileTemplate(
                data_dir=str(out),
                dataset_name=_plain(dataset.name),
                split=split,
                filetype_suffix="array_record",
                template=_TEMPLATE,
            )
            stored = source.source if isinstance(source, BottomCropped) else source
            shards = _shards(len(stored))
            total = 0
            for number, indices in enumerate(shards):
                name = template.sharded_filepath(shard_index=number, num_shards=len(shards))
                path = epath.Path(str(name))
                if path.exists():
                    shown.advance(len(indices))
                else:
                    _write_shard(stored, indices, path, features, shown)
                total += files.size(path)
            sizes = [len(indices) for indices in shards]
            info = tfds.core.SplitInfo(
                name=split, shard_lengths=sizes, num_bytes=total, filename_template=template
            )
            infos.append(info)
    tfds.folder_dataset.write_metadata(
        data_dir=str(out),
        features=features,
        split_infos=infos,
        description=f"{dataset.name}, split checksum {dataset.checksum or 'none'}",
        supervised_keys=("image", "label"),
        check_data=False,
    )


def read_records(folder: str) -> Dataset:
    """What `write_records` wrote: the same names, labels, families and bytes.

    Returns:
      The data set, its splits under their own names.

    Raises:
      UserError: the folder holds no such set, or one that was not finished.
    """
    import tensorflow_datasets as tfds

    from cdml_jax.data.readers.tfds_sets import TfdsSource

    root = copied(files.path_of(folder))
    card = _read_card(root)
    if card is None:
        raise UserError(
            f"array_record:{folder}: no {_CARD} there; `cdml prepare SOURCE --out={folder}` makes one"
        )
    if not (root / "dataset_info.json").exists():
        raise UserError(f"array_record:{folder}: not finished; run its `cdml prepare … --out={folder}` again")
    builder = tfds.builder_from_directory(str(root))
    splits: dict[str, Source] = {}
    for split, count in card["splits"].items():
        entries = _read_listing(root / _listing(split))
        if len(entries) != count:
            raise UserError(f"array_record:{folder}: {_listing(split)} has {len(entries)} lines, not {count}")
        labels = np.array([label for _, label in entries], np.int32)
        source: Source = TfdsSource(builder, split, labels=labels, names=[name for name, _ in entries])
        splits[split] = BottomCropped(source, card["crop_bottom"]) if card["crop_bottom"] else source
    if card["checksum"] and split_checksum(splits) != card["checksum"]:
        raise UserError(f"array_record:{folder}: its lists were changed; prepare it again")
    return Dataset(card["name"], _classes(card), splits, checksum=card["checksum"])


def _read_listing(path: epath.Path) -> list[tuple[str, int]]:
    """Name and label of every image of a split."""
    try:
        return [
            (name, label) for name, label in map(json.loads, path.read_text(encoding="utf-8").splitlines())
        ]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}); prepare it again") from error


def _card(dataset: Dataset) -> dict[str, Any]:
    crops = {s.pixels if isinstance(s, BottomCropped) else 0 for s in dataset.splits.values()}
    if len(crops) > 1:
        raise ValueError("the splits are cropped differently")
    classes = dataset.classes
    return {
        "version": _VERSION,
        "name": dataset.name,
        "class_names": list(classes.names),
        "families": None if classes.families is None else list(classes.families),
        "family_names": None if classes.family_names is None else list(classes.family_names),
        "crop_bottom": crops.pop(),
        "checksum": dataset.checksum,
        "fingerprint": dataset.fingerprint(),
        "splits": {split: len(source) for split, source in dataset.splits.items()},
    }


def _classes(card: dict[str, Any]) -> Classes:
    families, family_names = (
        None if card[key] is None else tuple(card[key]) for key in ("families", "family_names")
    )
    return Classes(tuple(card["class_names"]), families, family_names)


def _listings(dataset: Dataset) -> dict[str, str]:
    """For each split a line for each image: its name and label."""
    return {
        split: "".join(
            json.dumps([source.name(i), label]) + "\n"
            for i, label in enumerate(np.asarray(source.labels).tolist())
        )
        for split, source in dataset.splits.items()
    }


def _begin(out: epath.Path, card: dict[str, Any], listings: dict[str, str]) -> None:
    """Makes the folder this set's, or finds that it is already."""
    theirs = _read_card(out)
    if theirs == card:
        return
    if theirs is not None or (out.is_dir() and any(path.name[0] != "." for path in out.iterdir())):
        holds = f"{theirs['name']} (other images or splits)" if theirs else "other files"
        raise UserError(f"--out: {out} holds {holds}; choose an empty folder")
    out.mkdir(parents=True, exist_ok=True)
    for split, text in listings.items():
        (out / _listing(split)).write_text(text, encoding="utf-8")
    # The card comes last: a folder that has one has its lists.
    with files.replacing(out / _CARD) as temporary:
        temporary.write_text(json.dumps(card, indent=1), encoding="utf-8")


def _read_card(folder: epath.Path) -> dict[str, Any] | None:
    path = folder / _CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error})") from error
    if card.get("version") != _VERSION:
        raise UserError(f"{path} was written by another version of cdml_jax; prepare it again")
    return card


def _listing(split: str) -> str:
    return f"{split}.jsonl"


def _plain(name: str) -> str:
    # TFDS takes file names apart at hyphens and dots.
    return "".join(c if c.isalnum() else "_" for c in name.lower())


def _features(class_names: tuple[str, ...]) -> Any:
    import tensorflow_datasets as tfds

    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(),
            "label": tfds.features.ClassLabel(names=list(class_names)),
            "file_name": tfds.features.Text(),
        }
    )


def _shards(count: int) -> list[range]:
    """The images of each file, of as equal numbers as can be.

    >>> _shards(5000)
    [range(0, 2500), range(2500, 5000)]
    """
    number = max(1, math.ceil(count / _SHARD))
    return [range(count * k // number, count * (k + 1) // number) for k in range(number)]


def _write_shard(
    source: Source, indices: range, path: epath.Path, features: Any, shown: console.Progress
) -> None:
    """Writes one file, whole or not at all."""
    try:
        with files.replacing(path) as temporary:
            with _writer(temporary) as writer:
                for record in _records(source, indices, features):
                    writer.write(record)
                    shown.advance()
            _check_count(temporary, len(indices))
            _sync(temporary)
    except RuntimeError as error:  # the writer's own
        raise UserError(f"--out: {path} cannot be written ({str(error).partition(';')[0]})") from error


@contextlib.contextmanager
def _writer(path: epath.Path) -> Iterator[Any]:
    from array_record.python import array_record_module

    writer = array_record_module.ArrayRecordWriter(str(path), _OPTIONS)
    try:
        yield writer
        writer.close()
    finally:
        with contextlib.suppress(RuntimeError):  # told already
            writer.close()


def _records(source: Source, indices: range, features: Any) -> Iterator[bytes]:
    """The images with their labels and names, as TFDS writes examples."""
    from tensorflow_datasets.core import example_serializer

    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    with ThreadPoolExecutor(8) as pool:
        for start in range(0, len(indices), _CHUNK):
            chunk = indices[start : start + _CHUNK]
            for index, data in zip(chunk, pool.map(lambda i: _encoded(source, i), chunk), strict=True):
                example = {
                    "image": io.BytesIO(data),
                    "label": int(source.labels[index]),
                    "file_name": source.name(index).encode(errors="surrogateescape"),
                }
                yield serializer.serialize_example(features.encode_example(example))


def _check_count(path: epath.Path, count: int) -> None:
    from array_record.python import array_record_module

    # The writer reports a full disk to nobody: a short file is found by reading it.
    try:
        reader = array_record_module.ArrayRecordReader(str(path))
        written = reader.num_records()
        reader.close()
    except Exception as error:
        raise UserError(f"--out: {path} was not written whole ({error}); is the disk full?") from error
    if written != count:
        raise UserError(f"--out: {path} has {written} of {count} images; is the disk full?")


def _sync(path: epath.Path) -> None:
    with Path(path).open("rb") as file:
        os.fsync(file.fileno())


def _encoded(source: Source, index: int) -> bytes:
    try:
        image = source.image(index)
    except Exception as error:
        raise UserError(f"{source.name(index)}: {error}") from error
    if not isinstance(image, bytes):
        raise UserError(f"{source.name(index)}: pixels, not an encoded image; nothing to copy")
    return image
