"""Small pictures and folders of them."""

import cv2
import numpy as np
import pytest

from cdml_jax.data import ArraySource


def _picture(seed: int, height: int = 12, width: int = 16) -> np.ndarray:
    """A smooth RGB picture unlike any other seed's, and unlike its own mirror image."""
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8), (width, height))


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()


@pytest.fixture
def picture():
    """picture(seed, height, width) -> uint8 RGB array."""
    return _picture


@pytest.fixture
def png():
    """png(rgb array) -> bytes."""
    return _png


@pytest.fixture
def write_pictures(tmp_path):
    """write_pictures("a/1.png", ...) writes a different picture under each path; returns the folder."""

    def write(*paths: str):
        for path in paths:
            file = tmp_path / "images" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(_png(_picture(sum(path.encode()) * 1000 + len(path))))
        return tmp_path / "images"

    return write


@pytest.fixture
def memory_source():
    """memory_source(labels, images=None) -> pictures held in memory, one a seed unless they are given."""

    def make(labels, images=None):
        images = [_picture(i, 9, 11) for i in range(len(labels))] if images is None else images
        return ArraySource(images, labels, [f"memory[{i}]" for i in range(len(labels))])

    return make
