"""The nearest by a plain sort in float64, across the borders of tiles, blocks and devices."""

import jax
import numpy as np
import pytest
from retrieval_goldens import sorted_by_distance

from cdml_jax import neighbours
from cdml_jax.neighbours import nearest


@pytest.mark.parametrize("k", [1, 60, 300])
@pytest.mark.parametrize("alone", [True, False])
def test_neighbours_across_tiles_steps_blocks_and_devices(monkeypatch, k, alone):
    """Several of everything, with ties across all the borders: small integers are exact in float32."""
    monkeypatch.setattr(neighbours, "_STEP", 256)
    monkeypatch.setattr(neighbours, "_SCORES", {"cpu": 64 * 2 * 128})
    rng = np.random.default_rng(k)
    references = np.float32(rng.integers(-2, 3, (701, 4)))
    queries = references if alone else np.float32(rng.integers(-2, 3, (150, 4)))
    found = nearest(queries, None if alone else references, k=k, devices=jax.devices()[:2])
    assert np.array_equal(found, sorted_by_distance(queries, references, alone)[:, :k])


def test_equal_embeddings_are_equally_near_wherever_they_stand():
    """Rounding must not depend on the place in a block, or duplicates would not go by index."""
    rng = np.random.default_rng(3)
    few = rng.normal(size=(5, 33)).astype(np.float32)
    rows = few[rng.integers(0, 5, 1500)]
    kinds = np.unique(rows, axis=0, return_inverse=True)[1]
    found = nearest(rows, k=40)
    for index in range(0, 1500, 7):
        kin = np.flatnonzero(kinds == kinds[index])
        assert np.array_equal(found[index], kin[kin != index][:40])


def test_fewer_references_than_asked_for():
    assert nearest([[0.0], [2.0], [3.0]], k=4).tolist() == [[1, 2, -1, -1], [2, 0, -1, -1], [1, 0, -1, -1]]
