import pytest

from cdml_jax.system import console


@pytest.fixture(autouse=True)
def loud_again():
    """What one test's `--quiet` sets is not the next one's."""
    yield
    console.set_verbosity(console.Verbosity.NORMAL)
