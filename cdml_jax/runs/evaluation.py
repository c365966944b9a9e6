"""One pass over a split: counts, likeliest classes and embeddings; and what is measured of embeddings."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cdml_jax.confusion import Confusion
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.methods import Method
from cdml_jax.retrieval import clustering, nearest, retrieval
from cdml_jax.retrieval.figures import EmbeddingFigures
from cdml_jax.retrieval.maps import embedding_map
from cdml_jax.system import console
from cdml_jax.training.program import Program
from cdml_jax.training.settings import TrainingSettings
from cdml_jax.training.state import TrainState

NEIGHBOURS = 8
"""How many of the nearest images of an image are kept."""
TOP = 5
"""How many of the likeliest classes of an image are kept."""


class Evaluated(NamedTuple):
    """Hard counts of a split, and what one pass said of its images, in their order.

    Attributes:
      counts: of predicted classes.
      labels: (n,) the class of each image.
      embeddings: (n, size); (n, 0) where they were not asked for.
      top_classes: (n, at most `TOP`) the likeliest classes of each, the likeliest first, which is the one
        that is counted.
      top_probabilities: theirs, float32.
      true_probability: (n,) of the image's own class, float32; NaN where training never saw that class.
      calibrated_probability: (n,) of the likeliest class at a temperature, float32; None without one.
    """

    counts: Confusion
    labels: np.ndarray
    embeddings: np.ndarray
    top_classes: np.ndarray
    top_probabilities: np.ndarray
    true_probability: np.ndarray
    calibrated_probability: np.ndarray | None = None


def measured_embedding(config: TrainingSettings, method: Method) -> str:
    """Which embedding of a method is measured: "projection" or "features".

    A projection learns from triplets, and from terms that say so, alone. In a method without them it stays
    as it was drawn, so the features that the classifier reads are measured there, scaled to length 1, as is
    done of any network that was trained to classify.
    """
    trained = bool(method.miner) and config.objective.triplet_weight > 0
    trained |= method.structure.trains_embedding and config.objective.term_factor > 0
    return "projection" if trained and config.model.embedding_from == "projection" else "features"


def evaluate_split(
    program: Program[TrainingSettings],
    state: TrainState,
    split: str,
    embedding: str = "",
    temperature: float | None = None,
) -> Evaluated:
    """Counts, likeliest classes and embeddings of a split in one pass, by averaged weights where kept.

    Every process calls it, and every process gets all of them.

    Args:
      program, state: the run.
      split: which images.
      embedding: "projection", for what the network's head gives, "features", or "" for none.
      temperature: at which the likeliest class gets `calibrated_probability`; None for none.
    """
    labels = program.feed(split).labels
    parts: list[dict[str, np.ndarray]] = []
    with console.progress(f"Evaluating {split} images", labels.size) as shown:

        def keep(batch: dict[str, jax.Array], embeddings: jax.Array, logits: jax.Array) -> None:
            rows = {name: batch[name] for name in ("index", "mask", "label")}
            found = _gathered(rows, logits, embeddings if embedding else embeddings[:, :0], program.mesh)
            if temperature is not None:
                found["calibrated_probability"] = _likeliest(logits, temperature, program.mesh)
            parts.append(jax.tree.map(np.asarray, found))
            shown.advance(int(parts[-1]["mask"].sum()))

        counts = program.evaluate(
            state,
            split,
            each=keep,
            # Without a projection the head gives the features: no second program is compiled.
            features=embedding == "features" and program.config.model.embedding_from == "projection",
        )
    return Evaluated(counts, labels, **_in_order(parts))


def logits_of(program: Program[TrainingSettings], state: TrainState, split: str) -> np.ndarray:
    """Logits (n, C) float32 of a split's images in their order, on the host of every process."""
    parts: list[dict[str, np.ndarray]] = []
    with console.progress(f"Evaluating {split} images", len(program.feed(split).labels)) as shown:

        def keep(batch: dict[str, jax.Array], embeddings: jax.Array, logits: jax.Array) -> None:
            rows = {"index": batch["index"], "mask": batch["mask"]}
            parts.append(jax.tree.map(np.asarray, _whole(rows, logits, program.mesh)))
            shown.advance(int(parts[-1]["mask"].sum()))

        program.evaluate(state, split, each=keep)
    return _in_order(parts)["logits"]


def _in_order(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Rows of batches without padding, in the split's order, whatever that of the batches was."""
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    real = np.flatnonzero(rows["mask"])
    order = real[np.argsort(rows["index"][real], kind="stable")]
    return {name: values[order] for name, values in rows.items() if name not in ("index", "mask")}


@functools.partial(jax.jit, static_argnums=2)
def _whole(rows: dict[str, jax.Array], logits: jax.Array, mesh: Mesh) -> dict[str, jax.Array]:
    """A batch's logits, whole on every device, with their places."""
    logits = jax.lax.with_sharding_constraint(logits, mesh_lib.split_rows(mesh)).astype(jnp.float32)
    return jax.tree.map(functools.partial(mesh_lib.gather_rows, mesh), rows | {"logits": logits})


@functools.partial(jax.jit, static_argnums=2)
def _likeliest(logits: jax.Array, temperature: jax.Array | float, mesh: Mesh) -> jax.Array:
    """Largest of softmax(logits / temperature) of each row, whole on every device."""
    logits = jax.lax.with_sharding_constraint(logits, mesh_lib.split_rows(mesh)).astype(jnp.float32)
    found = jnp.exp(jax.nn.log_softmax(logits / temperature).max(axis=1))
    return mesh_lib.gather_rows(mesh, found)


@functools.partial(jax.jit, static_argnums=3)
def _gathered(
    rows: dict[str, jax.Array], logits: jax.Array, embeddings: jax.Array, mesh: Mesh
) -> dict[str, jax.Array]:
    """Likeliest classes of each row of a batch, whole on every device, with what else is kept of it."""
    labels = rows["label"]
    logits = jax.lax.with_sharding_constraint(logits, mesh_lib.split_rows(mesh)).astype(jnp.float32)
    log_probabilities = jax.nn.log_softmax(logits)
    # Of equal logits the first class comes first, as in the counts.
    top_classes = jax.lax.top_k(logits, min(TOP, logits.shape[1]))[1]
    found = {
        "index": rows["index"],
        "mask": rows["mask"],
        "embeddings": embeddings,
        "top_classes": top_classes,
        "top_probabilities": jnp.exp(jnp.take_along_axis(log_probabilities, top_classes, axis=1)),
        "true_probability": jnp.exp(jnp.take_along_axis(log_probabilities, labels[:, None], axis=1))[:, 0],
    }
    return jax.tree.map(functools.partial(mesh_lib.gather_rows, mesh), found)


class Neighbourhood(NamedTuple):
    """What is near what among the embeddings of a split; `Predictions` has the fields."""

    neighbours: np.ndarray
    similarities: np.ndarray
    map: np.ndarray | None


def neighbourhood(embeddings: np.ndarray, *, mapped: bool = True) -> Neighbourhood | None:
    """The nearest others of each embedding, and a map of all; None where embeddings are not finite.

    Args:
      embeddings: (n, size), of length 1.
      mapped: whether to make the map, which takes seconds.
    """
    if len(embeddings) < 2 or not np.isfinite(embeddings).all():
        return None
    with console.working(f"Finding the neighbours of {len(embeddings):,} images"):
        found = nearest(embeddings, k=NEIGHBOURS, devices=jax.local_devices())
        similarities = np.einsum("nd,nkd->nk", embeddings, embeddings[found], optimize=True)
        similarities[found < 0] = 0
        places = embedding_map(embeddings) if mapped and len(embeddings) <= clustering.LARGEST else None
    return Neighbourhood(found, similarities, places)


def measure(embeddings: np.ndarray, labels: np.ndarray, embedding: str) -> EmbeddingFigures:
    """Retrieval of embeddings among each other and their NMI, on the devices of this process alone.

    NMI is NaN where `clustering.why_not` has a reason, and where each image is a class of its own.
    """
    with console.working(f"Measuring the retrieval of {len(labels):,} images"):
        found = retrieval(embeddings, labels, devices=jax.local_devices())
    nmi = math.nan
    if not clustering.why_not(len(labels)):
        with console.working(f"Clustering {len(labels):,} embeddings"):
            nmi = clustering.normalized_mutual_information(embeddings, labels)
    return EmbeddingFigures(embedding, found, nmi)
