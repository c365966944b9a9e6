"""Eight simulated devices for every test, named before JAX looks for them."""

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture
def strict_shapes():
    """Ranks are never promoted in silence inside the objective."""
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield
