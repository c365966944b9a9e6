"""Sources made of other sources: some of the images, several in one, other numbers for classes, cropped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cdml_jax.data.dataset import Content, Source, content_of, stamp_of
from cdml_jax.errors import UserError


class Subset:
    """Some images of another source, in a given order.

    Args:
      source: the other source.
      indices: (m,) which images.
    """

    def __init__(self, source: Source, indices: np.ndarray):
        self._source = source
        self._indices = np.asarray(indices, np.int64)
        self.labels = np.asarray(source.labels, np.int32)[self._indices]

    def __len__(self) -> int:
        return len(self._indices)

    def image(self, index: int) -> bytes | np.ndarray:
        """The image of the other source."""
        return self._source.image(int(self._indices[index]))

    def name(self, index: int) -> str:
        """The image's name in the other source."""
        return self._source.name(int(self._indices[index]))

    def stamp(self, index: int) -> tuple[str, int, int]:
        """The image's stamp in the other source."""
        return stamp_of(self._source, int(self._indices[index]))

    def content(self, index: int) -> Content:
        """What is known of the image's content in the other source."""
        return content_of(self._source, int(self._indices[index]))


class Renumbered(Subset):
    """The images of some consecutive classes of a source, numbered from 0.

    Args:
      source: the other source.
      first: the class that becomes 0.
      stop: the first class after them.
    """

    def __init__(self, source: Source, first: int, stop: int):
        labels = np.asarray(source.labels)
        super().__init__(source, np.flatnonzero((labels >= first) & (labels < stop)))
        self.labels = self.labels - np.int32(first)


class Joined:
    """Several sources as one, in the order given.

    Args:
      sources: one or more.
    """

    def __init__(self, sources: Sequence[Source]):
        self._sources = tuple(sources)
        self._ends = np.cumsum([len(source) for source in sources])
        self.labels = np.concatenate([np.asarray(source.labels, np.int32) for source in sources])

    def _find(self, index: int) -> tuple[Source, int]:
        part = int(np.searchsorted(self._ends, index, side="right"))
        return self._sources[part], index - (int(self._ends[part - 1]) if part else 0)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def image(self, index: int) -> bytes | np.ndarray:
        """The image of its own source."""
        source, position = self._find(index)
        return source.image(position)

    def name(self, index: int) -> str:
        """The image's name in its own source."""
        source, position = self._find(index)
        return source.name(position)

    def stamp(self, index: int) -> tuple[str, int, int]:
        """The image's stamp in its own source."""
        return stamp_of(*self._find(index))

    def content(self, index: int) -> Content:
        """What is known of the image's content in its own source."""
        return content_of(*self._find(index))


class Whole:
    """All images of another source, of which a subclass says more, or gives others.

    Args:
      source: the images.
    """

    def __init__(self, source: Source):
        self.source = source
        self.labels = np.asarray(source.labels, np.int32)

    def __len__(self) -> int:
        return len(self.source)

    def image(self, index: int) -> bytes | np.ndarray:
        """The image of the source."""
        return self.source.image(index)

    def name(self, index: int) -> str:
        """The image's name in the source."""
        return self.source.name(index)

    def stamp(self, index: int) -> tuple[str, int, int]:
        """The image's stamp in the source."""
        return stamp_of(self.source, index)


class BottomCropped(Whole):
    """A source whose images lose some rows of pixels at the foot, such as a banner with the copyright.

    Args:
      source: the images as they are stored.
      pixels: how many rows to cut off.
    """

    def __init__(self, source: Source, pixels: int):
        super().__init__(source)
        self.pixels = pixels

    def image(self, index: int) -> np.ndarray:
        """The decoded image without its foot."""
        from cdml_jax.data.images.decoding import decode  # here: a data set is described without OpenCV

        stored = self.source.image(index)
        image = decode(stored) if isinstance(stored, bytes) else stored
        if image.shape[0] <= self.pixels:
            raise UserError(f"{image.shape[0]} pixels high, no more than the {self.pixels} to be cut off")
        return image[: -self.pixels]


class BoxCropped(Whole):
    """A source whose images are cut out by boxes.

    Args:
      source: the whole images.
      boxes: one an image, (left, top, right, bottom) in shares of its width and height.
    """

    def __init__(self, source: Source, boxes: Sequence[Sequence[float]]):
        super().__init__(source)
        self._boxes = np.asarray(boxes, np.float64).reshape(-1, 4)

    def image(self, index: int) -> np.ndarray:
        """The part of the decoded image inside its box, of a pixel at least."""
        from cdml_jax.data.images.decoding import decode  # here: a data set is described without OpenCV

        stored = self.source.image(index)
        image = decode(stored) if isinstance(stored, bytes) else stored
        sides = np.array([image.shape[1], image.shape[0]])
        left, top = np.clip(np.rint(self._boxes[index, :2] * sides).astype(int), 0, sides - 1)
        right, bottom = np.rint(self._boxes[index, 2:] * sides).astype(int)
        return image[top : max(bottom, top + 1), left : max(right, left + 1)]

    def content(self, index: int) -> Content:
        """What is known of the whole image's content."""
        return content_of(self.source, index)


class Digested(Whole):
    """A source whose images' contents are known by their digests.

    Args:
      source: the images.
      digests: one an image; "" where it is not known.
      bound: whether equal images stay in one split where a split is drawn.
    """

    def __init__(self, source: Source, digests: Sequence[str], *, bound: bool):
        super().__init__(source)
        self._digests, self._bound = np.array(digests, dtype="S24"), bound

    def content(self, index: int) -> Content:
        """The image's digest."""
        return Content(self._digests[index].decode(), self._bound)
