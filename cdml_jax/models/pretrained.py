"""Weights from files into a network, strictly: what is not used, on either side, is listed and refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from cdml_jax.errors import UserError

SHIPPED_FOLDER = Path(__file__).parent / "weights"
# Name of a shipped file and its SHA-256; made by the command in configs/demo_upstream.py.
SHIPPED = {"demo_upstream": "86dbe394c613a6f553a379a25832959cb7a408bb428d9f8ec78a780d7bddb8b7"}
HEADS = ("heads.",)


def load_weights(name: str, parameters: Any, statistics: Any) -> tuple[Any, Any]:
    """Parameters and batch statistics with the values of a file; the heads keep theirs.

    Args:
      name: a shipped name (`demo_upstream`) or the path of a .safetensors file that `save_weights` wrote.
      parameters, statistics: trees of arrays to fill; the file's values take their dtypes.

    Returns:
      Trees of the same structure, numpy leaves where filled.

    Raises:
      UserError: no such file, a shipped file whose digest is wrong, keys or shapes that do not fit.
    """
    path = _shipped(name) if name in SHIPPED else Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"model.weights: no file {path}; shipped weights are {', '.join(SHIPPED)}")
    try:
        values = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"model.weights: {path} is no readable safetensors file ({error})") from error
    trees = {"parameters": parameters, "statistics": statistics}
    ours = {key for key, _ in named_leaves(trees)}
    body = {key for key in ours if not _of_heads(key)}
    extra = {key for key in values if not _of_heads(key)} - body
    missing = body - values.keys()
    if extra or missing:
        lists = [
            f"{what}: {', '.join(sorted(keys)[:5])}"
            for what, keys in (("not in the network", extra), ("not in the file", missing))
            if keys
        ]
        raise UserError(f"model.weights: {path} does not fit the network; {'; '.join(lists)}")

    def fill(path_to_leaf, leaf):
        key = dotted_name(path_to_leaf)
        if _of_heads(key):
            return leaf
        if values[key].shape != leaf.shape:
            raise UserError(f"model.weights: {key} is {values[key].shape} in {path}, {leaf.shape} here")
        return values[key].astype(leaf.dtype)

    filled = jax.tree_util.tree_map_with_path(fill, trees)
    return filled["parameters"], filled["statistics"]


def save_weights(path: Path, parameters: Any, statistics: Any, metadata: dict[str, str]) -> str:
    """Write the network without its heads, float16 parameters and float32 statistics; give its SHA-256."""
    values = {}
    for key, leaf in named_leaves({"parameters": parameters, "statistics": statistics}):
        if not _of_heads(key):
            dtype = np.float16 if key.startswith("parameters.") and np.ndim(leaf) > 1 else np.float32
            values[key] = np.asarray(leaf).astype(dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(values, path, metadata=metadata)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Leaves with their dotted names, such as `parameters.blocks.0.conv1.kernel`."""
    return [(dotted_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def dotted_name(path: tuple) -> str:
    """A leaf's path as `jax.tree_util` gives it, with dots between: `blocks.0.conv1.kernel`."""
    return ".".join(str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path)


def _of_heads(key: str) -> bool:
    return key.partition(".")[2].startswith(HEADS)


def _shipped(name: str) -> Path:
    path = SHIPPED_FOLDER / f"{name}.safetensors"
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != SHIPPED[name]:
        raise UserError(f"model.weights: {path} is damaged (wrong SHA-256); install the package again")
    return path
