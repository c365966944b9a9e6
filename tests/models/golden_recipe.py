"""Weights and images that both sides of a golden make from names and numbers, so that none are stored."""

import zlib

import numpy as np

NUM_CLASSES = 10


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform in [0, 1), the same everywhere: `RandomState` is frozen, the seed is the name's checksum."""
    return np.random.RandomState(zlib.crc32(name.encode())).random_sample(shape).astype(np.float32)


def weight(name: str, shape: tuple[int, ...], gain: float) -> np.ndarray:
    """An array of a network by its PyTorch name: no scale is 1, no statistic trivial, nothing vanishes.

    `gain` is the variance that a layer gives to its output, over that of its input.
    """
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    values = draw(name, shape)
    last = name.rpartition(".")[2]
    if last == "running_var" or (last == "weight" and len(shape) == 1):
        return 0.5 + values
    if last in ("gamma", "lambda1"):  # LayerScale
        return 0.2 + 0.6 * values
    if last == "weight":
        return (2 * values - 1) * np.float32(np.sqrt(3 * gain / np.prod(shape[1:])))
    return 0.8 * values - 0.4  # biases, running means, tokens, positions


def weights(shapes: dict[str, list[int]], gain: float) -> dict[str, np.ndarray]:
    """All arrays of a network."""
    return {name: weight(name, tuple(shape), gain) for name, shape in shapes.items()}


def images(height: int, width: int) -> np.ndarray:
    """Two images (2, height, width, 3) in [-1, 1]: patches of colour and noise."""
    coarse = draw("coarse", (2, 5, 7, 3))
    rows, columns = np.arange(height) * 5 // height, np.arange(width) * 7 // width
    return 1.4 * coarse[:, rows][:, :, columns] - 0.7 + 0.6 * draw("noise", (2, height, width, 3)) - 0.3
