"""What saving costs: epochs of training with a checkpoint every so often, over epochs without.

    python benchmarks/checkpoint_cost.py [--config=configs/base.py] [--every=60] [--repeats=3] [--json=FILE]
        [--config.source=synthetic_birds/cub_like]

Both sides train the first epoch of the same run, in turn, in one process, by the same compiled step, until
all is on disk. "in the loop" is the time for which training stood still to save; "whole" is the ratio of the
two sides' times less one: it has the slower steps while a save is written, and the machine's noise.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import jax
from side_by_side import keep

from cdml_jax.configuration.datasets import load_dataset
from cdml_jax.configuration.load import load_arguments
from cdml_jax.configuration.settings import changed
from cdml_jax.runs.loop import fit
from cdml_jax.training.program import Program

NEVER = 1e9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=float, default=60.0, help="seconds between saves")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options, overrides = parser.parse_known_args()
    if not any(argument.startswith("--config=") for argument in overrides):
        overrides.append(f"--config={Path(__file__).parent.parent / 'configs' / 'base.py'}")
    few = {"epochs": 2, "warmup_epochs": 0, "evaluate_every": 2}
    config = changed(load_arguments(overrides).settings, few)
    program = Program(config, load_dataset(config))

    def epoch(every: float) -> tuple[float, float, dict]:
        program.config = changed(config, {"checkpoint.every_seconds": every})
        with tempfile.TemporaryDirectory() as folder:
            began, cpu = time.perf_counter(), time.process_time()
            run = fit(program, "cdml", 0, until_epoch=1, folder=Path(folder))
            return time.perf_counter() - began, time.process_time() - cpu, run.history[-1]

    epoch(options.every / 4)  # compiles, decodes the images that are kept in memory, sets up saving
    whole, cpu_time, in_loop, epochs = [], [], [], []
    for _ in range(options.repeats):
        without, cpu_without, _ = epoch(NEVER)
        saving, cpu_saving, entry = epoch(options.every)
        whole.append(100 * (saving / without - 1))
        cpu_time.append(100 * (cpu_saving / cpu_without - 1))
        in_loop.append(100 * entry["checkpoint_seconds"] / entry["seconds"])
        epochs.append(without)
        print(
            f"epoch {without:.1f} s, with saves {saving:.1f} s; in the loop {in_loop[-1]:.2f} %, "
            f"processor time {cpu_time[-1]:+.2f} %",
            flush=True,
        )
    if not any(in_loop):
        raise SystemExit(f"no save fell into an epoch of {epochs[0]:.1f} s: lower --every, {options.every:g}")
    result = {
        "epoch_seconds": round(statistics.median(epochs), 1),
        "every_seconds": options.every,
        "in_the_loop_percent": [round(x, 3) for x in sorted(in_loop)],
        "processor_time_percent": [round(x, 2) for x in sorted(cpu_time)],
        "whole_percent": [round(x, 2) for x in sorted(whole)],
        "source": config.source,
        "image_size": config.image.image_size,
        "batch_size": config.batch_size,
        "device": jax.devices()[0].device_kind,
        "machine": platform.machine(),
        "jax": jax.__version__,
    }
    print(json.dumps(result, indent=1))
    keep(result, options.json)


if __name__ == "__main__":
    main()
