"""Train one method under one seed."""

from __future__ import annotations

from collections.abc import Mapping

from etils.epath import Path

from cdml_jax.cli.actions.cards import looks, write_card
from cdml_jax.cli.actions.dropped import write_dropped
from cdml_jax.cli.actions.page import attempt
from cdml_jax.cli.actions.running import prepare, say_next
from cdml_jax.configuration.settings import Settings
from cdml_jax.configuration.styles import styled
from cdml_jax.data.dataset import Dataset
from cdml_jax.distributed import processes
from cdml_jax.distributed.signals import Stop
from cdml_jax.methods import METHODS, Method, named_method
from cdml_jax.runs import timing
from cdml_jax.runs.best import best_of
from cdml_jax.runs.checkpoint import Run
from cdml_jax.runs.claims import held
from cdml_jax.runs.loop import fit
from cdml_jax.system import console


@processes.joined()
def train(config: Settings, folder: Path, methods: Mapping[str, Method] = METHODS) -> Run:
    """Train the method `config.method` under `config.seed`; checkpoints and logs go to `folder`.

    Args:
      config: the settings.
      folder: the workdir.
      methods: by name: the package's, and those of the configuration file.
    """
    method = named_method(config.method, methods)
    config = styled(config)
    needed = ["validation"] if config.early_stopping else []
    program = prepare("train", config, folder, *needed, methods=[method])
    config = program.config
    with held(folder), Stop().listening() as stop:
        run = fit(program, method, config.seed, folder=folder, stop=stop, save_last=True, keep_best=True)
    last = run.history[-1]
    shown = [f"{run.epoch} epoch{'s' * (run.epoch != 1)} in {run.seconds:.0f} s", f"loss {last['loss']:.4f}"]
    if "validation_accuracy" in last:
        shown.append(f"validation accuracy {_of_images(last['validation_accuracy'], program.dataset)}")
    titled = f"{method.title}, seed {config.seed}"
    console.say(f"{titled}: {', '.join(shown)}")
    if run.epoch < config.epochs:
        console.say(
            f"{titled}: stopped early, after epoch {run.epoch} of {config.epochs}: no higher validation "
            f"accuracy in {config.early_stopping} looks"
        )
    best = best_of(run.history)
    if best is not None and best is not last:
        accuracy = _of_images(best["validation_accuracy"], program.dataset)
        console.say(
            f"The best epoch by validation was {best['epoch']}, {accuracy}; --best takes it in evaluate, "
            "predict, embed and export"
        )
    console.say(timing.summary(run.history))
    write_dropped(folder, program, method, run)
    write_card(folder, program, config, method, run, looks(program, run))
    if processes.is_first():
        attempt(folder)
    if "validation" in program.dataset.splits:
        say_next("evaluate", folder)
    elif "test" in program.dataset.splits:
        say_next("evaluate", folder, " --split=test")
    else:
        say_next("predict", folder, " IMAGE")
    return run


def _of_images(accuracy: float, dataset: Dataset) -> str:
    """A validation accuracy, and of how many images."""
    images = len(dataset.splits["validation"])
    return f"{accuracy:.2%} ({round(accuracy * images):,} of {images:,} images)"
