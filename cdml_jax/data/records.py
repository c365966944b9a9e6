"""A data set as array_record files: a few large files in place of millions of small ones, for clusters.

The folder is a prepared TFDS set, so `tfds:DIR` and other programs read it; beside it lie the names of the
images, the families and what else TFDS has no place for, which `array_record:DIR` reads too.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from cdml_jax.data.dataset import BottomCropped, Dataset, Source
from cdml_jax.data.official.reading import split_checksum
from cdml_jax.errors import UserError

_CARD = "cdml_jax.json"
_VERSION = 1
_SHARD = 4096  # images
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
# One image a group, to be read in any order; photographs do not compress further.
_OPTIONS = "group_size:1,uncompressed"


def write_records(dataset: Dataset, out: Path, say: Callable[[str], None]) -> None:
    """Writes every image of a data set, its bytes unchanged.

    Each file is written under another name and then renamed, and dataset_info.json comes last: a folder that
    has it is complete. The same call continues one that was stopped, by whole files.

    Args:
      dataset: what to write; the splits under their own names.
      out: the folder, made if missing.
      say: is told of each file.

    Raises:
      UserError: the folder holds something else or cannot be written, or an image cannot be read.
    """
    card = _card(dataset)
    try:
        _begin(out, card)
        with _alone(out):
            _write(dataset, out, say)
    except OSError as error:
        raise UserError(f"--out: {out} cannot be written ({error.strerror or error})") from error


def _write(dataset: Dataset, out: Path, say: Callable[[str], None]) -> None:
    import tensorflow_datasets as tfds  # here: it takes a second

    features = _features(dataset.class_names)
    infos = []
    for split, source in dataset.splits.items():
        stored = source.stored if isinstance(source, BottomCropped) else source
        template = tfds.core.ShardedFileTemplate(
            data_dir=str(out),
            dataset_name=_plain(dataset.name),
            split=split,
            filetype_suffix="array_record",
            template=_TEMPLATE,
        )
        sizes = _shard_sizes(len(stored))
        total = sum(
            _write_shard(
                stored,
                range(sum(sizes[:k]), sum(sizes[: k + 1])),
                Path(str(template.sharded_filepath(shard_index=k, num_shards=len(sizes)))),
                features,
                say,
            )
            for k in range(len(sizes))
        )
        infos.append(
            tfds.core.SplitInfo(name=split, shard_lengths=sizes, num_bytes=total, filename_template=template)
        )
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

    from cdml_jax.data.tfds_sets import TfdsSource

    root = Path(folder).expanduser()
    card = _read_card(root)
    if card is None:
        raise UserError(
            f"array_record:{folder}: no {_CARD} there; `cdml prepare SOURCE --out={folder}` makes one"
        )
    if not (root / "dataset_info.json").is_file():
        raise UserError(f"array_record:{folder}: not finished; run its `cdml prepare … --out={folder}` again")
    builder = tfds.builder_from_directory(str(root))
    splits: dict[str, Source] = {}
    for split, count in card["splits"].items():
        with (root / _listing(split)).open(encoding="ascii") as file:
            entries = [json.loads(line) for line in file]
        if len(entries) != count:
            raise UserError(f"array_record:{folder}: {_listing(split)} has {len(entries)} lines, not {count}")
        labels = np.array([label for _, label in entries], np.int32)
        source: Source = TfdsSource(builder, split, labels=labels, names=[name for name, _ in entries])
        splits[split] = BottomCropped(source, card["crop_bottom"]) if card["crop_bottom"] else source
    if card["checksum"] and split_checksum(splits) != card["checksum"]:
        raise UserError(f"array_record:{folder}: its lists were changed; prepare it again")
    families = card["families"]
    return Dataset(
        card["name"],
        tuple(card["class_names"]),
        None if families is None else np.array(families, np.int32),
        None if card["family_names"] is None else tuple(card["family_names"]),
        splits,
        checksum=card["checksum"],
    )


def _card(dataset: Dataset) -> dict[str, Any]:
    crops = {s.pixels if isinstance(s, BottomCropped) else 0 for s in dataset.splits.values()}
    if len(crops) > 1:
        raise ValueError("the splits are cropped differently")
    listings = {
        split: "".join(
            json.dumps([source.name(i), label]) + "\n"
            for i, label in enumerate(np.asarray(source.labels).tolist())
        )
        for split, source in dataset.splits.items()
    }
    return {
        "version": _VERSION,
        "name": dataset.name,
        "class_names": list(dataset.class_names),
        "families": None if dataset.families is None else dataset.families.tolist(),
        "family_names": None if dataset.family_names is None else list(dataset.family_names),
        "crop_bottom": crops.pop(),
        "checksum": dataset.checksum,
        "fingerprint": dataset.fingerprint(),
        "splits": {split: len(source) for split, source in dataset.splits.items()},
        "listings": listings,
    }


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keeps another writer out of the folder."""
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"--out: {out} is being written by another command; wait for it") from None
        yield


def _begin(out: Path, card: dict[str, Any]) -> None:
    """Makes the folder this set's, or finds that it is already."""
    listings = card.pop("listings")
    theirs = _read_card(out)
    if theirs == card:
        return
    if theirs is not None or (out.is_dir() and any(path.name[0] != "." for path in out.iterdir())):
        holds = f"{theirs['name']} (other images or splits)" if theirs else "other files"
        raise UserError(f"--out: {out} holds {holds}; choose an empty folder")
    out.mkdir(parents=True, exist_ok=True)
    for split, text in listings.items():
        (out / _listing(split)).write_text(text, encoding="ascii")
    partial = out / f".{_CARD}.tmp"
    partial.write_text(json.dumps(card, indent=1), encoding="ascii")
    partial.replace(out / _CARD)


def _read_card(folder: Path) -> dict[str, Any] | None:
    try:
        card = json.loads((folder / _CARD).read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / _CARD} cannot be read ({error})") from error
    if card.get("version") != _VERSION:
        raise UserError(f"{folder / _CARD} was written by another version of cdml_jax; prepare it again")
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


def _shard_sizes(count: int) -> list[int]:
    number = max(1, -(-count // _SHARD))
    return [count * (k + 1) // number - count * k // number for k in range(number)]


def _write_shard(
    source: Source, indices: range, path: Path, features: Any, say: Callable[[str], None]
) -> int:
    """Writes one file unless it is there already; gives its size in bytes."""
    from array_record.python import array_record_module
    from tensorflow_datasets.core import example_serializer

    if path.exists():
        return path.stat().st_size
    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        left.unlink()
    writer = array_record_module.ArrayRecordWriter(str(partial), _OPTIONS)
    try:
        with ThreadPoolExecutor(8) as pool:
            for start in range(indices.start, indices.stop, 256):  # a shard need not fit in memory
                chunk = range(start, min(start + 256, indices.stop))
                for index, data in zip(chunk, pool.map(lambda i: _encoded(source, i), chunk), strict=True):
                    example = {
                        "image": io.BytesIO(data),
                        "label": int(source.labels[index]),
                        "file_name": source.name(index).encode(errors="surrogateescape"),
                    }
                    writer.write(serializer.serialize_example(features.encode_example(example)))
        writer.close()
        _check_count(partial, len(indices))
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except RuntimeError as error:  # the writer's own
        raise UserError(f"--out: {path} cannot be written ({str(error).partition(';')[0]})") from error
    finally:
        with contextlib.suppress(RuntimeError):  # told already
            writer.close()
        partial.unlink(missing_ok=True)
    say(f"{path.name}: {len(indices):,} images")
    return path.stat().st_size


def _check_count(path: Path, count: int) -> None:
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


def _encoded(source: Source, index: int) -> bytes:
    try:
        image = source[index]["image"]
    except Exception as error:
        raise UserError(f"{source.name(index)}: {error}") from error
    if not isinstance(image, bytes):
        raise UserError(f"{source.name(index)}: pixels, not an encoded image; nothing to copy")
    return image
