"""Arrays by name from a file: shipped, safetensors, PyTorch's own, or from the Hugging Face hub."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from safetensors import safe_open

from cdml_jax.errors import UserError
from cdml_jax.models.weights.pickles import read_pickle
from cdml_jax.system.buckets import in_bucket
from cdml_jax.system.console import escaped
from cdml_jax.system.files import path_of

SHIPPED_FOLDER = Path(__file__).parent / "shipped"
# Name of a shipped file and its SHA-256; made by the command in configs/demo_upstream.py.
SHIPPED = {"demo_upstream": "86dbe394c613a6f553a379a25832959cb7a408bb428d9f8ec78a780d7bddb8b7"}
HUB = "hf:"
_LONGEST_HEADER = 100_000_000  # bytes, of a safetensors file

# First bytes of files that people take for weights, and what to do about each.
_OTHERS = {
    b"\x1f\x8b": "is compressed by gzip; unpack it first",
    b"BZh": "is compressed by bzip2; unpack it first",
    b"\xfd7zXZ": "is compressed by xz; unpack it first",
    b"\x89HDF": "is an HDF5 file, as Keras writes them; save the arrays as .safetensors",
    b"version https://git-lfs": "is a pointer of Git LFS, not the weights; run git lfs pull",
    b"<": "is a web page, not the weights; fetch the file itself",
    b"\x93NUMPY": "is an array of NumPy without a name; save the arrays as .safetensors",
    b"{": "is JSON, such as the index of weights in several files; join them into one .safetensors file",
}


class WeightFile(NamedTuple):
    """Arrays by name, what the file says of itself, and where it lies.

    Attributes:
      values: the arrays.
      metadata: by a safetensors file's header.
      path: of the file.
      table: the name of the table in the file that was read, where it has some; else "".
    """

    values: dict[str, np.ndarray]
    metadata: dict[str, str]
    path: Path
    table: str = ""


def read_weights(name: str) -> WeightFile:
    """Arrays of a shipped name, of a path or of `hf:organisation/model`.

    A file's kind is known by its content. Pickles of PyTorch are read by `torch.load(weights_only=True)`,
    which runs no code of the file, and only where torch is installed; FILE#NAME is one of its tables.

    Raises:
      UserError: no such file or model, a damaged one, or a package that it needs is missing.
    """
    path, table = _located(name)
    if _is_pickle(path):
        values, found = read_pickle(path, table)
        return WeightFile(values, {}, path, found)
    if table:
        raise UserError(f"{_named(path)} has no tables; leave out #{escaped(table)}")
    try:
        with safe_open(path, "np") as file:
            kinds = {key: file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
            # NumPy has no floating-point numbers of fewer bits.
            values = {
                key: file.get_tensor(key)
                for key, kind in kinds.items()
                if not kind.startswith(("F8", "F6_")) and kind != "F4"
            }
            left = {key: kind for key, kind in kinds.items() if key not in values}
            metadata = file.metadata() or {}
    except Exception as error:  # safetensors raises what it likes on a damaged file
        raise UserError(f"{_named(path)} is not a readable safetensors file ({_reason(error)})") from error
    if left:
        raise UserError(
            f"{_named(path)} holds numbers of 8 bits or fewer ({', '.join(sorted(set(left.values())))}), in "
            f"{len(left)} arrays such as {escaped(min(left))}; save them with 16 or 32 bits"
        )
    return WeightFile(values, metadata, path)


def style_of(name: str) -> str:
    """The style that a file says its weights are of; "" where it says nothing or is not a safetensors file.

    Files of `save_weights` name their style, converted files of TensorFlow's weights their padding.

    Raises:
      UserError: no such file or model.
    """
    return style_in(metadata_of(name))


def metadata_of(name: str) -> dict[str, str]:
    """What a safetensors file says of itself; nothing for any other file.

    Raises:
      UserError: no such file or model.
    """
    path, _ = _located(name)
    try:
        with safe_open(path, "np") as file:
            return file.metadata() or {}
    except Exception:  # `read_weights` says what is wrong with it
        return {}


def style_in(metadata: dict[str, str]) -> str:
    """The style that the metadata of a file name, or ""."""
    return "tensorflow" if metadata.get("padding", "").startswith("SAME") else metadata.get("style", "")


def _located(name: str) -> tuple[Path, str]:
    """The file, and the name of a table in it, if one is given."""
    if name in SHIPPED:
        return _shipped(name), ""
    if name.startswith(HUB):
        return _from_hub(name.removeprefix(HUB)), ""
    if in_bucket(name):
        raise UserError(
            f"model.weights: {name}: a file of weights is read from a disk of this machine; fetch it, and "
            "give its path (the workdir of a run may be in a bucket)"
        )
    path, table = Path(path_of(name)), ""
    if not path.exists() and "#" in name:
        file, _, table = name.rpartition("#")
        path = Path(path_of(file))
    if path.is_dir():
        raise UserError(f"{_named(path)} is a folder; name the file in it that holds the weights")
    if not path.is_file():
        raise UserError(
            f"model.weights: no file {escaped(str(path))}; shipped weights are {', '.join(SHIPPED)}"
        )
    return path, table


def _holds_arrays_of_numpy(path: Path) -> bool:
    try:
        with np.load(path, allow_pickle=False) as archive:  # of any zip file, read when asked for
            return any(name.endswith(".npy") for name in archive.zip.namelist())
    except (OSError, ValueError, BadZipFile):
        return False  # the reader of pickles says what is wrong with it


def _is_pickle(path: Path) -> bool:
    """Whether the content is a pickle or a zip archive, which PyTorch writes; some others are refused."""
    try:
        with path.open("rb") as file:
            first = file.read(64)
    except OSError as error:
        raise UserError(f"{_named(path)} cannot be opened ({error.strerror or error})") from error
    if not first:
        raise UserError(f"{_named(path)} is empty; copy or fetch it once more")
    if first[8:9] == b"{" and int.from_bytes(first[:8], "little") <= _LONGEST_HEADER:
        return False  # whatever its length looks like
    for magic, advice in _OTHERS.items():
        if first.lstrip().startswith(magic):
            raise UserError(f"{_named(path)} {advice}")
    if first.startswith(b"PK") and _holds_arrays_of_numpy(path):
        raise UserError(f"{_named(path)} is an archive of NumPy (.npz); save the arrays as .safetensors")
    return first.startswith((b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"))


def _named(path: Path) -> str:
    return f"model.weights: {escaped(str(path))}"


def _reason(error: Exception) -> str:
    """The first line of what another library says."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return escaped(lines[0])


def _shipped(name: str) -> Path:
    path = SHIPPED_FOLDER / f"{name}.safetensors"
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != SHIPPED[name]:
        raise UserError(f"model.weights: {path} is damaged (wrong SHA-256); install the package again")
    return path


def _from_hub(model: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise UserError(
            f"model.weights: {HUB}{model} needs huggingface_hub; pip install 'cdml_jax[hub]'"
        ) from error
    try:
        return Path(hf_hub_download(model, "model.safetensors"))
    except (OSError, ValueError) as error:  # no network, no such model, no such file, no such name
        raise UserError(f"model.weights: {HUB}{model} could not be fetched: {_reason(error)}") from error
