"""Inputs of the tests of retrieval and clustering, and what pytorch-metric-learning says of them.

    python tests/retrieval/retrieval_goldens.py

writes retrieval_goldens.json beside this file, by its AccuracyCalculator; it needs torch, faiss-cpu,
scikit-learn and pytorch-metric-learning 2.9.0, which the tests do not.
"""

import json
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".json")
RECALL_AT = (1, 2, 4, 8)


def cases():
    """Name to the arguments of `retrieval`: embeddings, labels and, for some, references and their labels."""
    rng = np.random.default_rng(20180205)

    def clusters(labels, spread, size=12):
        centres = np.random.default_rng(1).normal(size=(labels.max() + 1, size))
        rows = centres[labels] + spread * rng.normal(size=(labels.size, size))
        return np.float32(rows / np.linalg.norm(rows, axis=1, keepdims=True))

    chance = rng.integers(0, 9, 230)
    sizes = np.repeat(np.arange(14), [1, 1, 2, 2, 3, 3, 5, 8, 8, 13, 21, 34, 55, 80])
    unbalanced = rng.permutation(sizes)
    tied = rng.integers(0, 7, 190)
    asked, held = rng.integers(0, 12, 90), rng.integers(2, 10, 210)
    return {
        "chance": (np.float32(rng.normal(size=(230, 16))), chance),
        "clusters": (clusters(np.sort(chance), 0.7), np.sort(chance)),
        "unbalanced": (clusters(unbalanced, 0.5), unbalanced),
        "tied": (np.float32(rng.integers(0, 3, (190, 3)) + (tied % 2)[:, None]), tied),
        "separate": (clusters(asked, 0.6), asked, clusters(held, 0.6), held),
        "separate_tied": (
            np.float32(rng.integers(0, 2, (90, 4))),
            asked,
            np.float32(rng.integers(0, 2, (210, 4))),
            held,
        ),
    }


def clusters_of(labels):
    """A cluster for each image, of unequal sizes, that tells something of its class."""
    noise = np.random.default_rng(labels.size).integers(0, 3, labels.size)
    return (labels + noise * (noise > 1) + labels // 5) % np.unique(labels).size


def sorted_by_distance(queries, references, alone):
    """Every query's references, the nearest first, ties by index; itself left out."""
    queries, references = np.float64(queries), np.float64(references)
    distances = ((queries[:, None] - references[None]) ** 2).sum(axis=-1)
    order = np.argsort(distances, axis=1, kind="stable")
    if alone:
        order = np.stack([row[row != index] for index, row in enumerate(order)])
    return order


def main():
    """Write the file."""
    import torch
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import FaissKNN, return_results

    class WithRecall(AccuracyCalculator):
        def calculate_recall(self, knn_labels, query_labels, not_lone_query_mask, **_):
            same = (knn_labels == query_labels[:, None])[not_lone_query_mask]
            return {k: same[:, :k].any(dim=1).double().mean().item() for k in RECALL_AT}

        def requires_knn(self):
            return [*super().requires_knn(), "recall"]

    def by_index(query, k, reference, ref_includes_query=False):
        """Exact neighbours; equal distances by index, which faiss does not promise."""
        distances = torch.cdist(query.double(), reference.double()).square().round(decimals=9)
        values, indices = torch.sort(distances, dim=1, stable=True)
        k += ref_includes_query
        return return_results(values[:, :k], indices[:, :k], ref_includes_query)

    include = ("recall", "precision_at_1", "r_precision", "mean_average_precision_at_r")
    results = {}
    for name, arguments in cases().items():
        search = by_index if "tied" in name else FaissKNN()
        alone = len(arguments) == 2
        calculator = WithRecall(
            include=(*include, "NMI") if alone else include,
            knn_func=search,
            kmeans_func=lambda _, number, labels=arguments[1]: torch.from_numpy(clusters_of(labels)),
            device=torch.device("cpu"),
        )
        results[name] = calculator.get_accuracy(*arguments)
    FILE.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
