"""Weights from files into a network, strictly: what is not used, on either side, is listed and refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from cdml_jax.errors import UserError
from cdml_jax.models import NETWORKS
from cdml_jax.models.weights.conversion import convert, refuse_names, refuse_not_finite
from cdml_jax.models.weights.files import WeightFile, read_weights
from cdml_jax.models.weights.imagenet import IMAGENET, imagenet_weights
from cdml_jax.system.trees import dotted_name, named_leaves

HEADS = ("heads.",)


def load_weights(
    name: str,
    parameters: Any,
    statistics: Any,
    *,
    network: str,
    style: str = "",
    keep_classifier: bool = False,
) -> tuple[Any, Any]:
    """Parameters and batch statistics with the values of a file; the heads keep theirs.

    Args:
      name: `imagenet`, a shipped name (`demo_upstream`), the path of a .safetensors file, ours or another
        library's, of a PyTorch pickle (.pth, .pt), or `hf:organisation/model`.
      parameters, statistics: trees of arrays to fill; the file's values take their dtypes.
      network: the network's name, which says by which names other libraries call its arrays.
      style: the network's; refused where the file's metadata says otherwise.
      keep_classifier: fill the classifier too; only from other libraries' files, of as many classes.

    Returns:
      Trees of the same structure, numpy leaves where filled.

    Raises:
      UserError: no such file, a damaged one, keys or shapes that do not fit, values that are not finite.
    """
    source = NETWORKS[network].imagenet
    file = imagenet_weights(network, source) if name == IMAGENET else read_weights(name)
    return fill_weights(
        file, parameters, statistics, network=network, style=style, keep_classifier=keep_classifier
    )


def fill_weights(
    file: WeightFile,
    parameters: Any,
    statistics: Any,
    *,
    network: str,
    style: str = "",
    keep_classifier: bool = False,
) -> tuple[Any, Any]:
    """As `load_weights`, from a file that was read; leaves of the trees may be shapes alone."""
    trees = {"parameters": parameters, "statistics": statistics}
    ours = dict(named_leaves(trees))
    # Our files name their style, converted files of TensorFlow's weights their padding.
    padded_same = file.metadata.get("padding", "").startswith("SAME")
    of_file = "tensorflow" if padded_same else file.metadata.get("style", "")
    if of_file and of_file != style:
        raise UserError(f"model.style: {file.path} is of the style {of_file}; set model.style={of_file}")
    if any(key.startswith("parameters.") for key in file.values):
        filled = _fill_own(file.values, ours, str(file.path))
    else:
        full_names = {key.partition(".")[2]: key for key in ours}
        shapes = {short: ours[full] for short, full in full_names.items()}
        values = convert(
            file.values,
            shapes,
            NETWORKS[network].tables(),
            origin=str(file.path),
            keep_classifier=keep_classifier,
        )
        filled = {full_names[short]: value for short, value in values.items()}
    trees = jax.tree_util.tree_map_with_path(lambda path, leaf: filled.get(dotted_name(path), leaf), trees)
    return trees["parameters"], trees["statistics"]


def _fill_own(values: dict[str, np.ndarray], ours: dict[str, Any], origin: str) -> dict[str, np.ndarray]:
    """Values of a file that `save_weights` wrote, by our full names."""
    body = {key: leaf for key, leaf in ours.items() if not _of_heads(key)}
    refuse_names(
        origin, {key for key in values if not _of_heads(key)} - body.keys(), body.keys() - values.keys()
    )
    for key, leaf in body.items():
        if values[key].shape != leaf.shape:
            raise UserError(f"model.weights: {key} is {values[key].shape} in {origin}, {leaf.shape} here")
    filled = {key: values[key].astype(leaf.dtype) for key, leaf in body.items()}
    refuse_not_finite(origin, filled)
    return filled


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


def _of_heads(key: str) -> bool:
    return key.partition(".")[2].startswith(HEADS)
