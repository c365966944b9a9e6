"""One pass over a split for its confusion counts and its embeddings, and what is measured of these."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from cdml_jax.retrieval import clustering, retrieval
from cdml_jax.retrieval.figures import EmbeddingFigures
from cdml_jax.training import mesh as mesh_lib
from cdml_jax.training.program import Program
from cdml_jax.training.rows import named_row
from cdml_jax.training.state import TrainState
from cdml_jax.training.storage import Counts


class Evaluated(NamedTuple):
    """Hard counts of a split and, of its images in their order, embeddings (n, size) and labels (n,)."""

    counts: Counts
    embeddings: np.ndarray
    labels: np.ndarray


def measured_embedding(config: ConfigDict, row: str) -> str:
    """Which embedding of a row is measured: "projection" or "features".

    A projection learns from triplets alone. In a row without them it stays as it was drawn, so the pooled
    features that the classifier reads are measured there, scaled to length 1, as is done of any network
    that was trained to classify.
    """
    trained = named_row(row).triplets and config.objective.triplet_weight > 0
    return "projection" if trained and config.model.embedding_from == "projection" else "features"


def evaluate_split(program: Program, state: TrainState, split: str, embedding: str) -> Evaluated:
    """Counts and embeddings of a split in one pass, by averaged weights where kept.

    Every process calls it, and every process gets all of them. `embedding` is "projection", for what the
    network's head gives, or "features".
    """
    gather = jax.jit(functools.partial(mesh_lib.gather_rows, program.mesh))
    parts: list[np.ndarray] = []
    counts, _ = program.evaluate(
        state,
        split,
        embedded=lambda rows: parts.append(np.asarray(gather(rows))),
        # Without a projection the head gives the features: no second program is compiled.
        features=embedding == "features" and program.config.model.embedding_from == "projection",
    )
    labels = np.asarray(program.source(split).labels)
    return Evaluated(counts, np.concatenate(parts)[: labels.size], labels)  # the last batch is padded


def measure(embeddings: np.ndarray, labels: np.ndarray, embedding: str) -> EmbeddingFigures:
    """Retrieval of embeddings among each other and their NMI, on the devices of this process alone.

    NMI is NaN where `clustering.why_not` has a reason, and where each image is a class of its own.
    """
    found = retrieval(embeddings, labels, devices=jax.local_devices())
    left_out = clustering.why_not(len(labels))
    nmi = math.nan if left_out else clustering.normalized_mutual_information(embeddings, labels)
    return EmbeddingFigures(embedding, found, nmi)
