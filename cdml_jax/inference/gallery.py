"""Embeddings of many images in one file, to be searched for those that are like a photograph."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from etils.epath import Path

from cdml_jax.errors import UserError
from cdml_jax.inference.descriptors import DDT, DESCRIPTORS, Descriptor
from cdml_jax.retrieval import nearest
from cdml_jax.retrieval.descriptors import Direction
from cdml_jax.system.files import replacing, writing

if TYPE_CHECKING:
    from jaxtyping import Float


class Match(NamedTuple):
    """An image of a gallery and how like a photograph it is: the cosine of the angle of the embeddings."""

    path: str
    similarity: float


@dataclasses.dataclass(frozen=True, eq=False)
class Gallery:
    """Images and their embeddings.

    Attributes:
      paths: of the images, below the folder that was embedded.
      embeddings: (images, size) float32, of length 1.
      workdir: of the run whose network made them, from the root of its disk; "" of a pretrained network.
      best: whether that was the best epoch by validation, not the last.
      network: digest of the network (`TrainedRun.digest`).
      descriptor: how the images were described; None by the network's own embedding.
    """

    paths: tuple[str, ...]
    embeddings: Float[np.ndarray, "images size"]
    workdir: str
    best: bool
    network: str
    descriptor: Descriptor | None = None

    def search(self, embeddings: Float[np.ndarray, "photographs size"], *, top: int = 5) -> list[list[Match]]:
        """The `top` most similar images for each photograph's embedding, the most similar first.

        Raises:
          ValueError: embeddings of another size, or that are not finite; `top` below 1.

        >>> gallery = Gallery(("a.jpg", "b.jpg"), np.eye(2, dtype=np.float32), "runs/mine", False, "")
        >>> gallery.search(np.float32([[0.6, 0.8]]))
        [[Match(path='b.jpg', similarity=0.8), Match(path='a.jpg', similarity=0.6)]]
        """
        found = []
        for row, indices in zip(embeddings, nearest(embeddings, self.embeddings, k=top), strict=True):
            similarities = self.embeddings[indices[indices >= 0]].astype(np.float64) @ row
            found.append(
                [
                    Match(self.paths[index], round(float(similarity), 6))
                    for index, similarity in zip(indices, similarities)
                ]
            )
        return found


def save(gallery: Gallery, path: os.PathLike | str, more: dict[str, np.ndarray] | None = None) -> None:
    """Write a gallery as `.npz`, whole or not at all; `more` are arrays that go with it.

    Raises:
      UserError: it cannot be written.
    """
    arrays: dict[str, Any] = {
        "paths": np.array(gallery.paths),
        "embeddings": gallery.embeddings,
        "workdir": np.array(gallery.workdir),
        "best": np.array(gallery.best),
        "network": np.array(gallery.network),
        **_plain(gallery.descriptor),
        **(more or {}),
    }
    with writing(path), replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def _plain(descriptor: Descriptor | None) -> dict[str, np.ndarray]:
    """A descriptor as arrays; nothing for none."""
    if descriptor is None:
        return {}
    arrays = {"descriptor": np.array(descriptor.name), "side": np.array(descriptor.side)}
    if descriptor.direction is not None:
        mean, vector, share = descriptor.direction
        arrays |= {"mean": mean, "direction": vector, "share": np.array(share)}
    return arrays


def _descriptor(file: Mapping[str, np.ndarray]) -> Descriptor | None:
    if "descriptor" not in file:
        return None
    name, side = file["descriptor"].item(), int(file["side"])
    if name not in DESCRIPTORS:
        raise ValueError(f"descriptor {name!r}")
    direction = Direction(file["mean"], file["direction"], float(file["share"])) if name == DDT else None
    return Descriptor(name, side, direction)


def read(path: os.PathLike | str) -> Gallery:
    """What `save` wrote.

    Raises:
      UserError: there is no such file, or it is not a gallery.
    """
    name = os.fspath(path)
    try:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is one array")
            paths, embeddings = file["paths"], file["embeddings"]
            workdir, best, network = (file[key].item() for key in ("workdir", "best", "network"))
            gallery = Gallery(tuple(map(str, paths)), embeddings, workdir, best, network, _descriptor(file))
    except FileNotFoundError:
        raise UserError(f"--gallery: there is no file {name}; cdml embed writes one") from None
    except KeyError as error:
        raise UserError(
            f"--gallery: {name} has no {error.args[0].split()[0]!r}: it is not a gallery of cdml embed, or "
            "one of an older version; write it again"
        ) from error
    except ValueError as error:  # numpy takes whatever is no archive for a pickle, and advises to trust it
        raise UserError(f"--gallery: {name} is not an .npz file of cdml embed; write it again") from error
    except Exception as error:  # whatever zipfile, zlib and numpy raise of damaged files
        raise UserError(
            f"--gallery: {name} cannot be read ({error}); write it again with cdml embed"
        ) from error
    shape = embeddings.shape
    if embeddings.dtype.kind != "f" or len(shape) != 2 or shape[0] != len(paths) or not paths.size:
        raise UserError(
            f"--gallery: {name} has {len(paths)} paths and embeddings of shape {shape}, {embeddings.dtype}; "
            "write it again with cdml embed"
        )
    if not np.isfinite(embeddings).all():
        raise UserError(
            f"--gallery: {name} holds numbers that are not finite; write it again with cdml embed"
        )
    return gallery
