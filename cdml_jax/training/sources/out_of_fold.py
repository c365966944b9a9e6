"""Confusion that is honest about training images: each is predicted by a classifier that did not see it.

A fine-tuned network separates its training images, so the confusion that it counts on them is small. Here a
linear classifier is fitted on the features of the network as it is before the first step, on all folds of the
training images but one, and predicts that one.
"""

from __future__ import annotations

import zlib

import jax
import numpy as np

from cdml_jax.confusion import Confusion
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.errors import UserError
from cdml_jax.system import console
from cdml_jax.training.program import Program
from cdml_jax.training.settings import TrainingSettings
from cdml_jax.training.state import TrainState

FOLDS = 5


def out_of_fold_confusion(program: Program[TrainingSettings], state: TrainState) -> Confusion:
    """Counts of the training images by the predictions of fits that did not see them.

    They are hard or soft as `confusion.counts` says, and kept as the storage keeps counts of epochs.

    Args:
      program: whose training images and pooled features, of length 1, are used.
      state: before its first step.

    Raises:
      UserError: the network is not pretrained, counts are not kept whole, or scikit-learn is not installed.
    """
    config = program.config
    if not config.model.weights:
        raise UserError(
            "confusion.source: out_of_fold needs the features of a pretrained network; set model.weights"
        )
    nothing = program.storage.nothing()
    if nothing.matrix is None:
        raise UserError("confusion.source: out_of_fold needs confusion.storage=dense")
    feed = program.feed("train")
    parts: list[np.ndarray] = []
    with console.progress("Features of training images", len(feed)) as shown:

        def keep(batch: dict[str, jax.Array], embeddings: jax.Array, logits: jax.Array) -> None:
            parts.append(np.asarray(mesh_lib.gather_rows(program.mesh, embeddings)))
            shown.advance(len(parts[-1]))

        program.total_counts(state, "train", each=keep, features=config.model.embedding_from == "projection")
    features = np.concatenate(parts)[: len(feed)]  # the last batch is padded
    names = [feed.name(index) for index in range(len(feed))]
    with console.working(f"Fitting {FOLDS} linear classifiers"):
        probabilities = held_out_probabilities(features, feed.labels, names, program.dataset.num_classes)
    soft = config.confusion.counts == "soft"
    counts = counts_of(feed.labels, probabilities, soft=soft)
    return nothing._replace(matrix=counts.astype(np.float32))  # type: ignore[attr-defined]


def held_out_probabilities(
    features: np.ndarray, labels: np.ndarray, names: list[str], num_classes: int
) -> np.ndarray:
    """Probabilities (n, C) of each image's classes by a logistic regression that did not see the image.

    Folds are by the images' names alone, within each class. A class whose images are all in one fold is
    not predicted for them.

    Args:
      features: (n, size).
      labels: (n,) classes.
      names: one an image.
      num_classes: C.

    Raises:
      UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise UserError(
            "confusion.source: out_of_fold needs scikit-learn; pip install 'cdml_jax[report]'"
        ) from error
    fold = folds_of(labels, names)
    probabilities = np.zeros((len(labels), num_classes))
    for index in range(FOLDS):
        out = fold == index
        seen = np.unique(labels[~out])
        if not out.any() or seen.size < 2:
            continue
        scaler = StandardScaler().fit(features[~out])
        fitted = LogisticRegression(C=0.1, max_iter=200).fit(scaler.transform(features[~out]), labels[~out])
        probabilities[np.ix_(out, fitted.classes_)] = fitted.predict_proba(scaler.transform(features[out]))
    return probabilities


def folds_of(labels: np.ndarray, names: list[str]) -> np.ndarray:
    """Fold of each image: its place among the images of its class in an order by a digest of the names.

    >>> folds_of(np.array([0, 0, 1]), ["a", "b", "c"]).tolist()
    [1, 0, 0]
    """
    digest = np.array([zlib.crc32(name.encode(errors="surrogateescape")) for name in names])
    fold = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        fold[rows[np.argsort(digest[rows], kind="stable")]] = np.arange(rows.size) % FOLDS
    return fold


def counts_of(labels: np.ndarray, probabilities: np.ndarray, *, soft: bool) -> np.ndarray:
    """Counts (C, C) of predictions: of probabilities if soft, else of the likeliest classes."""
    counts = np.zeros((probabilities.shape[1],) * 2)
    predicted = probabilities.any(axis=1)
    if soft:
        np.add.at(counts, labels[predicted], probabilities[predicted])
    else:
        np.add.at(counts, (labels[predicted], probabilities[predicted].argmax(axis=1)), 1)
    return counts
