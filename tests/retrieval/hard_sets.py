"""Embeddings whose neighbours a product in float32 gets wrong, and their neighbours by brute force."""

import jax.numpy as jnp
import numpy as np

SIZE, CLASSES = 24, 20


def labels_of(number):
    """Classes in turn."""
    return np.arange(number) % CLASSES


def hard_sets(number, seed=0):
    """Name to (number, 24) embeddings of 20 classes."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(number, SIZE)) + 0.8 * rng.normal(size=(CLASSES, SIZE))[labels_of(number)]
    unit = base / np.linalg.norm(base, axis=1, keepdims=True)
    far = 1e4 * rng.normal(size=(7, SIZE))[rng.integers(0, 7, number)]
    copies = rng.integers(0, number // 12, number)

    def tight(spread):
        rows = unit[0] + spread / 10 * base
        return np.float32(rows / np.linalg.norm(rows, axis=1, keepdims=True))

    def one_column(values):
        rows = base.copy()
        rows[:, 3] = values
        return np.float32(rows)

    def outliers(factor):
        rows = base.copy()
        rows[:5] *= factor
        rows[4] = rows[5] * factor
        return np.float32(rows)

    signs = rng.choice([-1, 1], number)
    return {
        "as drawn": np.float32(unit),
        **{f"+{offset:g}": np.float32(base + offset) for offset in (1e2, 1e3, 1e4, 1e8)},
        **{f"tight {spread:g}": tight(spread) for spread in (1e-2, 1e-3, 1e-6, 1e-8)},
        "far clusters": np.float32(base + far),
        "far clusters, +1e5": np.float32(base + far + 1e5),
        "far clusters, farther": np.float32(base + 100 * far),
        "far clusters, tight": np.float32(1e-3 * unit + far / 1e3),
        "far clusters, copies": np.float32(base + far)[copies],
        "copies": np.float32(base)[copies],
        "copies, +1000": np.float32(base + 1000)[copies],
        "all the same": np.tile(np.float32(base[:1]), (number, 1)),
        "constant column": one_column(1e6),
        "huge column": one_column(1e6 * rng.normal(size=number)),
        "column of two values": one_column(1e6 * signs),
        "outliers": outliers(1e6),
        "outliers, far": outliers(1e17),
        "scales of rows": np.float32(base * 10.0 ** rng.integers(-6, 6, (number, 1)) + 1),
        "scales of columns": np.float32(base * 10.0 ** rng.integers(-6, 6, SIZE)),
        "two places": np.float32(np.where(signs[:, None] > 0, 1e-3 * base + 1, 1e-3 * base - 1e5)),
        "smaller than normal": np.float32(base) * np.float32(1e-42),
        "integers": np.float32(rng.integers(0, 3, (number, 4))),
        "binary codes, +1000": np.float32(rng.choice([-1, 1], (number, SIZE)) + 1000),
        "permutations": np.float32([rng.permutation(SIZE) for _ in range(number)]),
        "one column": np.float32(base[:, :1] + 1e5),
        "float16": (base + 100).astype(np.float16),
        "bfloat16": np.asarray(jnp.asarray(base + 10, jnp.bfloat16)),
        "bfloat16, integers": np.asarray(jnp.asarray(rng.integers(0, 3, (number, 4)), jnp.bfloat16)),
        "float64": base + 1e9,
        "float64, tight": unit[0] + 1e-11 * base,
        "float64, far clusters": 1e-6 * base + 1e3 * far,
        "8 bits": rng.integers(0, 256, (number, SIZE)).astype(np.uint8),
    }


def brute_force(queries, references, alone):
    """Every query's references by (distance in float64, index), one query at a time; itself left out."""
    queries, references = np.asarray(queries, np.float64), np.asarray(references, np.float64)
    order = np.stack([np.argsort(((references - q) ** 2).sum(axis=1), kind="stable") for q in queries])
    if alone:
        order = np.stack([row[row != index] for index, row in enumerate(order)])
    return order
