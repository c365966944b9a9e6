"""Without the extras a command says what is missing, and the core still imports."""

import subprocess
import sys

import pytest

EXTRAS = (
    "etils",
    "flax",
    "optax",
    "orbax",
    "grain",
    "ml_collections",
    "cv2",
    "tensorboardX",
    "tqdm",
    "scipy",
)


def run(program, *, without=EXTRAS):
    blocked = "".join(f"sys.modules[{name!r}] = None;" for name in without)
    return subprocess.run(
        [sys.executable, "-c", f"import sys;{blocked}{program}"], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "without", "missing"),
    [
        (["--help"], EXTRAS, "etils"),
        (["train", "--config=demo"], ("ml_collections",), "ml_collections"),
        (["train", "--config=demo"], ("optax",), "optax"),
    ],
)
def test_a_command_names_the_extra(arguments, without, missing):
    done = run(
        f"sys.argv[1:] = {arguments}; from cdml_jax.cli import start; sys.exit(start())", without=without
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"cdml: {missing}")
    assert "pip install 'cdml_jax[train,report]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("call", ["settings('demo')", "load('runs/mine')", "train(None, None)"])
def test_python_names_the_extra(call):
    done = run(f"import cdml_jax; cdml_jax.{call}")
    assert done.stderr.splitlines()[-1].endswith("pip install 'cdml_jax[train]' brings what training needs")


def test_the_core_needs_none():
    names = "losses, regularizers, confusion, sampling, retrieval"
    more = "cdml_jax.regularizers, cdml_jax.retrieval.descriptors, cdml_jax.retrieval.encodings"
    done = run(f"from cdml_jax import {names}; import {more}")
    assert done.returncode == 0, done.stderr
