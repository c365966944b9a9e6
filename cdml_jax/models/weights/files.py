"""Arrays by name from a file: shipped, .safetensors, PyTorch's own, or from the Hugging Face hub."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from cdml_jax.errors import UserError

SHIPPED_FOLDER = Path(__file__).parent / "shipped"
# Name of a shipped file and its SHA-256; made by the command in configs/demo_upstream.py.
SHIPPED = {"demo_upstream": "86dbe394c613a6f553a379a25832959cb7a408bb428d9f8ec78a780d7bddb8b7"}
HUB = "hf:"


class WeightFile(NamedTuple):
    """Arrays by name, what the file says of itself, and where it lies."""

    values: dict[str, np.ndarray]
    metadata: dict[str, str]
    path: Path


def read_weights(name: str) -> WeightFile:
    """Arrays of a shipped name, of a path (.safetensors, .pth, .pt) or of `hf:organisation/model`.

    Pickles of PyTorch are read by `torch.load(weights_only=True)`, which runs no code of the file, and only
    where torch is installed.

    Raises:
      UserError: no such file or model, a damaged one, or a package that it needs is missing.
    """
    if name in SHIPPED:
        path = _shipped(name)
    elif name.startswith(HUB):
        path = _from_hub(name.removeprefix(HUB))
    else:
        path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"model.weights: no file {path}; shipped weights are {', '.join(SHIPPED)}")
    if path.suffix in (".pth", ".pt"):
        return WeightFile(_read_torch(path), {}, path)
    try:
        with safe_open(path, "np") as file:
            values = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return WeightFile(values, file.metadata() or {}, path)
    except (SafetensorError, OSError, TypeError) as error:
        raise UserError(f"model.weights: {path} is no readable safetensors file ({error})") from error


def _shipped(name: str) -> Path:
    path = SHIPPED_FOLDER / f"{name}.safetensors"
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != SHIPPED[name]:
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
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"model.weights: {HUB}{model} could not be fetched: {reason}") from error


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"model.weights: {path} needs torch, which is not installed; save the tensors as .safetensors"
        ) from error
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch raise what they like on a damaged or unsafe file
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"model.weights: {path} cannot be read with weights_only=True ({reason})") from error
    # Checkpoints of training programs hold the weights under one of these names.
    for key in ("state_dict", "model"):
        if isinstance(values, dict) and isinstance(values.get(key), dict):
            values = values[key]
    if not isinstance(values, dict) or not all(isinstance(v, torch.Tensor) for v in values.values()):
        raise UserError(f"model.weights: {path} holds no table of tensors; save model.state_dict()")
    return {key: value.float().numpy() for key, value in values.items()}
