"""Make a trained run into weights that the package ships, and print their SHA-256.

    python experiments/ship_weights.py runs/demo_upstream

The newest whole checkpoint becomes cdml_jax/models/weights/shipped/NAME.safetensors, where NAME is the
workdir's. The SHA-256 belongs in `SHIPPED`, in cdml_jax/models/weights/files.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cdml_jax.configuration.datasets import load_dataset
from cdml_jax.configuration.settings import from_plain
from cdml_jax.errors import UserError
from cdml_jax.models.weights.files import SHIPPED_FOLDER
from cdml_jax.models.weights.loading import save_weights
from cdml_jax.runs import workdir
from cdml_jax.runs.trained_weights import restore_for_evaluation
from cdml_jax.training.program import Program


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdir", type=Path, help="of a run of `cdml train`")
    folder = parser.parse_args().workdir
    try:
        config = from_plain(workdir.read(folder)["config"])
        state, _ = restore_for_evaluation(folder, Program(config, load_dataset(config)))
        parameters, statistics = state.in_use
        path = SHIPPED_FOLDER / f"{folder.name}.safetensors"
        metadata = {"source": config.source, "network": config.model.name, "style": config.model.style}
        digest = save_weights(path, parameters, statistics, metadata)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{path}: {path.stat().st_size} bytes, SHA-256 {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
