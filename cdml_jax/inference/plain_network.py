"""The network of a run in operations that other formats know."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator

import jax
from flax import nnx

from cdml_jax.errors import UserError
from cdml_jax.inference.trained_run import TrainedRun
from cdml_jax.training.evaluation import evaluated

INPUT, OUTPUTS = "images", ("logits", "embeddings")


Network = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


def tempered(network: Network, temperature: float, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What a network gives, logits and embeddings, its logits divided by a temperature."""
    logits, embeddings = network(images)
    return (logits if temperature == 1.0 else logits / temperature), embeddings


def plain_network(run: TrainedRun) -> Network:
    """What `run.apply` computes of images, tempered, with XLA's own convolutions, not the forms for CPUs.

    The forms are chosen by the platform while a program is lowered, which no other format can express.
    """
    graph = run.apply.keywords["graph"]

    def network(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        model = nnx.merge(graph, run.weights.parameters, run.weights.batch_statistics)
        for _, module in nnx.iter_graph(model):
            if isinstance(module, nnx.Conv):
                module.conv_general_dilated = jax.lax.conv_general_dilated
        logits, embeddings = evaluated(model, images, flip=run.config.test_time_flip)
        return logits, embeddings

    return functools.partial(tempered, network, run.temperature)


@contextlib.contextmanager
def converting(format_name: str, extra: str, *loggers: str) -> Iterator[None]:
    """Inside it, a library that is missing or cannot convert the network becomes one line.

    Args:
      format_name: as a person knows it.
      extra: of this package, that brings the library.
      loggers: libraries' loggers whose notes are not about the network; they are silent meanwhile.

    Raises:
      UserError: the library is not installed, or it raised something.
    """
    before = {name: logging.getLogger(name).level for name in loggers}
    for name in loggers:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"--out: {format_name} needs {error.name or error}: pip install 'cdml_jax[train,{extra}]'"
        ) from error
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:  # converters raise whatever an operation that they lack leads to
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"--out: the network cannot be converted to {format_name} ({reason}); export it to .jax, which "
            "takes every network"
        ) from error
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
