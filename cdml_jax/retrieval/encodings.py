"""Encodings of an image's descriptors by a small codebook: VLAD and the Fisher vector.

The codebook is fitted on the descriptors of some images by scikit-learn; the encodings are functions of
arrays, which jax and numpy alone compute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cdml_jax.retrieval.descriptors import of_length_one

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float


class Mixture(NamedTuple):
    """A mixture of K Gaussians with diagonal covariances.

    Attributes:
      weights: (K,), of sum 1.
      means, variances: (K, channels).
    """

    weights: Float[np.ndarray, " components"]
    means: Float[np.ndarray, "components channels"]
    variances: Float[np.ndarray, "components channels"]


def fit_centres(
    descriptors: Float[np.ndarray, "number channels"], *, number: int = 2, seed: int = 0
) -> Float[np.ndarray, "centres channels"]:
    """Centres of `number` clusters of descriptors, by scikit-learn's k-means (the extra `report`)."""
    from sklearn.cluster import KMeans

    return KMeans(number, n_init=1, random_state=seed).fit(descriptors).cluster_centers_


def fit_mixture(
    descriptors: Float[np.ndarray, "number channels"], *, number: int = 2, seed: int = 0
) -> Mixture:
    """A mixture of `number` Gaussians, by scikit-learn's expectation maximisation (the extra `report`)."""
    from sklearn.mixture import GaussianMixture

    fitted = GaussianMixture(number, covariance_type="diag", reg_covar=1e-4, random_state=seed)
    fitted.fit(descriptors)
    return Mixture(fitted.weights_, fitted.means_, fitted.covariances_)


def vlad(
    feature_map: Float[Array, "batch height width channels"],
    positions: Bool[Array, "batch height width"],
    centres: Float[Array, "centres channels"],
) -> Float[Array, "batch size"]:
    r"""VLAD of the descriptors at some positions, (batch, K channels), signed roots scaled to length 1.

    .. math:: v_k = \sum_{x : \text{nearest}(x) = k} (x - c_k)

    Source: Jégou, Douze, Schmid and Pérez, "Aggregating Local Descriptors into a Compact Image
    Representation", CVPR 2010; signed root as customary since.
    """
    x, there = _flat(feature_map, positions)
    centres = jnp.asarray(centres, x.dtype)
    products = jnp.einsum("bpd,kd->bpk", x, centres, precision="highest")
    distances = (centres**2).sum(axis=1) - 2 * products  # but for |x|², which is the same for all centres
    own = jax.nn.one_hot(jnp.where(there, distances.argmin(axis=2), -1), len(centres), dtype=x.dtype)
    summed = jnp.einsum("bpk,bpd->bkd", own, x, precision="highest") - own.sum(axis=1)[..., None] * centres
    return _rooted(summed)


def fisher_vector(
    feature_map: Float[Array, "batch height width channels"],
    positions: Bool[Array, "batch height width"],
    mixture: Mixture,
) -> Float[Array, "batch size"]:
    r"""Fisher vector of the descriptors at some positions, (batch, 2 K channels), rooted, of length 1.

    .. math:: \frac{1}{T \sqrt{w_k}} \sum_t \gamma_t(k) \frac{x_t - \mu_k}{\sigma_k}, \quad
              \frac{1}{T \sqrt{2 w_k}} \sum_t \gamma_t(k)
              \left[\frac{(x_t - \mu_k)^2}{\sigma_k^2} - 1\right]

    with γ_t(k) the probability of component k given x_t.

    Source: Perronnin, Sánchez and Mensink, "Improving the Fisher Kernel for Large-Scale Image
    Classification", ECCV 2010.
    """
    first, second = fisher_gradients(feature_map, positions, mixture)
    return _rooted(jnp.concatenate([first, second], axis=1))


def fisher_gradients(
    feature_map: Float[Array, "batch height width channels"],
    positions: Bool[Array, "batch height width"],
    mixture: Mixture,
) -> tuple[Float[Array, "batch components channels"], Float[Array, "batch components channels"]]:
    """The two sums of `fisher_vector`, of first and of second order, before the signed root."""
    x, there = _flat(feature_map, positions)
    weights, means, variances = (jnp.asarray(part, x.dtype) for part in mixture)
    scaled = (x[:, :, None] - means) * jax.lax.rsqrt(variances)  # (batch, positions, K, channels)
    log = jnp.log(weights) - 0.5 * (jnp.log(variances).sum(axis=1) + (scaled**2).sum(axis=3))
    gamma = jnp.where(there[..., None], jax.nn.softmax(log, axis=2), 0)
    number = jnp.maximum(there.sum(axis=1, dtype=x.dtype), 1)[:, None, None]
    first = jnp.einsum("bpk,bpkd->bkd", gamma, scaled) / (number * jnp.sqrt(weights)[:, None])
    second = jnp.einsum("bpk,bpkd->bkd", gamma, scaled**2 - 1) / (number * jnp.sqrt(2 * weights)[:, None])
    return first, second


def _flat(feature_map: Array, positions: Array) -> tuple[Array, Array]:
    """(batch, positions, channels) in float32 or wider, 0 at the other positions, and which count."""
    there = positions.reshape(positions.shape[0], -1)
    x = feature_map.reshape(*there.shape, feature_map.shape[3])
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return jnp.where(there[..., None], x, 0), there


def _rooted(values: Array) -> Array:
    """Signed roots in one row an image, of length 1."""
    rows = values.reshape(values.shape[0], -1)
    return of_length_one(jnp.sign(rows) * jnp.sqrt(jnp.abs(rows)))
