"""The command line, one file a command: flags in, calls out."""

import sys


def start() -> int:
    """The `cdml` script; of an installation without the extra `train`, a line that says so."""
    try:
        from cdml_jax.cli import main
    except ModuleNotFoundError as error:
        return lacking(error)
    return main.start()


def lacking(error: ModuleNotFoundError) -> int:
    """Say which package is not installed and what brings it; returns the exit status."""
    if (error.name or "cdml_jax").partition(".")[0] == "cdml_jax":
        raise error
    print(
        f"cdml: {error.name} is not installed: pip install 'cdml_jax[train,report]' brings what it needs",
        file=sys.stderr,
    )
    return 2
