"""Make a trained run into weights that the package ships: `python -m cdml_jax.models.ship WORKDIR`."""

from __future__ import annotations

import sys
from pathlib import Path

from cdml_jax.configuration.settings import from_plain
from cdml_jax.errors import UserError
from cdml_jax.models.pretrained import save_weights
from cdml_jax.models.weight_files import SHIPPED_FOLDER
from cdml_jax.training import workdir
from cdml_jax.training.checkpoint import restore_last
from cdml_jax.training.program import Program, load_dataset


def main(arguments: list[str]) -> int:
    """Write weights/NAME.safetensors from the last checkpoint of WORKDIR and print its SHA-256."""
    if len(arguments) != 1:
        print("usage: python -m cdml_jax.models.ship WORKDIR", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    try:
        config = from_plain(workdir.read(folder)["config"])
        run = restore_last(folder, Program(config, load_dataset(config)))
        parameters, statistics = run.state.in_use
        path = SHIPPED_FOLDER / f"{folder.name}.safetensors"
        metadata = {"source": config.source, "network": config.model.name, "style": config.model.style}
        digest = save_weights(path, parameters, statistics, metadata)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{path}: {path.stat().st_size} bytes, SHA-256 {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
