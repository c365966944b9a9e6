"""Eight simulated devices for every test, named before JAX looks for them, and each program compiled once."""

import getpass
import tempfile
from pathlib import Path

import jax
import jaxtyping
import pytest
import shape_checks

shape_checks.install("cdml_jax")

jax.config.update("jax_num_cpu_devices", 8)
# Many tests compile the same tiny step; the workers of a parallel run share what one has compiled.
_CACHE = Path(tempfile.gettempdir()) / f"cdml_jax-tests-{getpass.getuser()}-jax{jax.__version__}"
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


# The files that take longest, by measured seconds: begun last, one of them would keep one worker waiting.
_LONGEST = (
    "faults/test_processes.py",
    "runs/test_runs_by_command.py",
    "distributed/test_mesh.py",
    "models/test_goldens.py",
    "cli/test_own_images.py",
    "runs/test_checkpoint.py",
    "models/test_models.py",
    "test_extending.py",
    "training/test_terms.py",
    "training/test_step.py",
    "test_readme.py",
    "test_examples.py",
    "runs/test_loop.py",
    "test_bad_input.py",
    "test_cli.py",
)


def pytest_collection_modifyitems(items):
    """Whole files, the longest first: `make test` gives each worker a file at a time (`--dist=loadfile`)."""
    place = {Path(__file__).parent / name: number for number, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(autouse=True)
def loud_again():
    """What one test's `--quiet` sets is not the next one's."""
    from cdml_jax.system import console  # here: once its shapes are checked

    yield
    console.set_verbosity(console.Verbosity.NORMAL)


@pytest.fixture
def strict_shapes():
    """Ranks are never promoted in silence inside the objective."""
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def unchecked_shapes():
    """Arguments of wrong shapes reach the package, whose own refusal is what the test is about."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield
