"""Embeddings that are near come to lie near; few, equal and many ones are placed too."""

import numpy as np
import pytest

from cdml_jax.retrieval import maps


@pytest.mark.parametrize("landmarks", [1_000, 30])
def test_clusters_stay_together(monkeypatch, landmarks):
    monkeypatch.setattr(maps, "LANDMARKS", landmarks)
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    found = maps.embedding_map(4 * np.eye(8)[labels] + rng.normal(0, 0.1, (60, 8)))
    assert found.dtype == np.float16
    assert (found.min(), found.max()) == (0, 1)
    distances = np.linalg.norm(found[:, None].astype(float) - found[None].astype(float), axis=2)
    np.fill_diagonal(distances, np.inf)
    assert np.array_equal(labels[distances.argmin(axis=1)], labels)


def test_few_and_equal_embeddings():
    assert maps.embedding_map(np.eye(4)) is None
    assert np.array_equal(maps.embedding_map(np.ones((7, 3))), np.full((7, 2), 0.5))
