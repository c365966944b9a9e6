"""VLAD and Fisher vectors against loops, scikit-learn's likelihood and its derivatives; average precision."""

import jax
import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from cdml_jax.retrieval.encodings import (
    fisher_gradients,
    fisher_vector,
    fit_centres,
    fit_mixture,
    vlad,
)
from cdml_jax.retrieval.measures import average_precision_at


def test_vlad_sums_the_residuals_of_the_nearest_centre():
    rng = np.random.default_rng(0)
    maps, positions = rng.normal(size=(3, 4, 5, 6)), rng.random((3, 4, 5)) < 0.6
    centres = fit_centres(np.concatenate([maps.reshape(-1, 6) + 2, maps.reshape(-1, 6) - 1]), seed=1)
    found = jax.jit(vlad)(np.where(positions[..., None], maps, 99.0), positions, centres)
    for image in range(3):
        sums = np.zeros((2, 6))
        for x in maps[image][positions[image]]:
            nearest = np.square(centres - x).sum(axis=1).argmin()
            sums[nearest] += x - centres[nearest]
        rooted = np.sign(sums) * np.sqrt(np.abs(sums))
        np.testing.assert_allclose(found[image], (rooted / np.linalg.norm(rooted)).ravel(), atol=1e-5)


def test_the_fisher_vector_is_the_scaled_gradient_of_the_likelihood():
    rng = np.random.default_rng(1)
    maps, positions = rng.normal(size=(2, 3, 4, 3)) * (1, 2, 3), rng.random((2, 3, 4)) < 0.7
    mixture = fit_mixture(np.concatenate([m[p] + k for k, (m, p) in enumerate(zip(maps, positions))]), seed=2)

    def likelihood(x, means, variances):
        model = GaussianMixture(2, covariance_type="diag")
        model.weights_, model.means_ = mixture.weights, means
        model.precisions_cholesky_ = 1 / np.sqrt(variances)
        return model.score(x)  # mean over the descriptors

    deviations = np.sqrt(mixture.variances)
    first, second = jax.jit(fisher_gradients)(maps, positions, mixture)
    for image in range(2):
        x = maps[image][positions[image]]
        for k, d in np.ndindex(2, 3):
            step = np.zeros((2, 3))
            step[k, d] = 1e-4
            by_mean, by_deviation = (
                (likelihood(x, *changed(step)) - likelihood(x, *changed(-step))) / 2e-4
                for changed in (
                    lambda s: (mixture.means + s, mixture.variances),
                    lambda s: (mixture.means, (deviations + s) ** 2),
                )
            )
            scale = deviations[k, d] / np.sqrt(mixture.weights[k])
            np.testing.assert_allclose(first[image, k, d], by_mean * scale, atol=1e-4)
            np.testing.assert_allclose(second[image, k, d], by_deviation * scale / np.sqrt(2), atol=1e-4)
    rooted = np.concatenate([first, second], axis=1).reshape(2, -1)
    rooted = np.sign(rooted) * np.sqrt(np.abs(rooted))
    rooted /= np.linalg.norm(rooted, axis=1, keepdims=True)
    np.testing.assert_allclose(jax.jit(fisher_vector)(maps, positions, mixture), rooted, atol=1e-5)


def test_average_precision_names_its_denominator():
    hits = [(0, 1, 1, 0, 1), (0, 0, 0, 0, 0), (1, 0, 0, 0, 0)]
    np.testing.assert_allclose(average_precision_at(hits), [0.5888888889, 0, 1])
    np.testing.assert_allclose(average_precision_at(hits, over="k"), [0.3533333333, 0, 0.2])
    with pytest.raises(ValueError, match="over must be hits or k, not 'r'"):
        average_precision_at(hits, over="r")
