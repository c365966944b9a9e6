"""Weights from files into a network, strictly: what is not used, on either side, is listed and refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from cdml_jax.errors import UserError
from cdml_jax.models import NETWORKS, STYLES
from cdml_jax.models.parts import source_of
from cdml_jax.models.weights.conversion import cast, convert, refuse_names
from cdml_jax.models.weights.files import WeightFile, read_weights, style_in
from cdml_jax.models.weights.imagenet import IMAGENET, imagenet_weights
from cdml_jax.system import console
from cdml_jax.system.console import escaped
from cdml_jax.system.trees import dotted_name, named_leaves

HEADS = ("heads.", "part.")


def load_weights(
    name: str,
    parameters: Any,
    statistics: Any,
    *,
    network: str,
    style: str = "",
    keep_classifier: bool = False,
    quiet: bool = True,
) -> tuple[Any, Any]:
    """Parameters and batch statistics with the values of a file; the heads keep theirs.

    Args:
      name: `imagenet`, or as `read_weights` takes it: a shipped name (`demo_upstream`), the path of a
        safetensors file, ours or another library's, of a PyTorch pickle, or `hf:organisation/model`.
      parameters, statistics: trees of arrays to fill; the file's values take their dtypes.
      network: the network's name, which says by which names other libraries call its arrays.
      style: the network's; refused where the file's metadata says otherwise.
      keep_classifier: fill the classifier too; only from other libraries' files, of as many classes.
      quiet: False prints one line about another library's file: whose names it has, what is changed and left.

    Returns:
      Trees of the same structure, numpy leaves where filled.

    Raises:
      UserError: no such file, a damaged one, keys or shapes that do not fit, values that are not finite.
    """
    source = NETWORKS[network].imagenet
    file = imagenet_weights(network, source) if name == IMAGENET else read_weights(name)
    return fill_weights(
        file,
        parameters,
        statistics,
        network=network,
        style=style,
        keep_classifier=keep_classifier,
        quiet=quiet,
    )


def fill_weights(
    file: WeightFile,
    parameters: Any,
    statistics: Any,
    *,
    network: str,
    style: str = "",
    keep_classifier: bool = False,
    quiet: bool = True,
) -> tuple[Any, Any]:
    """As `load_weights`, from a file that was read; leaves of the trees may be shapes alone."""
    trees = {"parameters": parameters, "statistics": statistics}
    ours = dict(named_leaves(trees))
    origin = escaped(str(file.path))
    _check_style(origin, style_in(file.metadata), style, network)
    there = {key.split(".")[1] for key in ours}
    gone = tuple(name for name in NETWORKS[network].family.pool_names if name not in there)
    if any(key.startswith("parameters.") for key in file.values):
        theirs = {key: value for key, value in file.values.items() if key.split(".")[1] not in gone}
        filled = _fill_own(theirs, ours, origin)
    else:
        full_names = {key.partition(".")[2]: key for key in ours}
        shapes = {short: ours[full] for short, full in full_names.items()}
        values, said = convert(
            file.values,
            shapes,
            NETWORKS[network].tables(),
            origin=f"{origin}#{escaped(file.table)}" if file.table else origin,
            keep_classifier=keep_classifier,
            gone=gone,
        )
        if not quiet:
            of_table = f", its table {escaped(file.table)}" if file.table else ""
            console.say(f"Weights of {origin}{of_table}: {said}")
        filled = {full_names[short]: value for short, value in values.items()}
    # What begins as a copy is a copy: a step uses its arrays up, each once.
    filled |= {key: filled[of].copy() for key in ours if (of := source_of(key)) != key and of in filled}
    trees = jax.tree_util.tree_map_with_path(lambda path, leaf: filled.get(dotted_name(path), leaf), trees)
    return trees["parameters"], trees["statistics"]


def _check_style(origin: str, of_file: str, style: str, network: str) -> None:
    """Refuse a file of another style than the network's."""
    if not of_file or of_file == style:
        return
    if of_file not in STYLES:
        raise UserError(
            f"model.weights: {origin} says that it is of the style {of_file!r}; known are {', '.join(STYLES)}"
        )
    if "style" not in NETWORKS[network].family.options:
        raise UserError(f"model.weights: {origin} is of the style {of_file}, which {network} cannot have")
    raise UserError(f"model.style: {origin} is of the style {of_file}; set model.style={of_file}")


def _fill_own(values: dict[str, np.ndarray], ours: dict[str, Any], origin: str) -> dict[str, np.ndarray]:
    """Values of a file that `save_weights` wrote, by our full names."""
    body = {key: leaf for key, leaf in ours.items() if not _of_heads(key)}
    refuse_names(
        origin, {key for key in values if not _of_heads(key)} - body.keys(), body.keys() - values.keys()
    )
    for key, leaf in body.items():
        if values[key].shape != leaf.shape:
            raise UserError(f"model.weights: {key} is {values[key].shape} in {origin}, {leaf.shape} here")
    return cast(origin, {key: values[key] for key in body}, body)


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
