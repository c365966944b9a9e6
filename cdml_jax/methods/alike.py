"""Which methods of a table are one and the same at its settings, so that chance alone sets them apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from cdml_jax.methods.facts import by_confusion, rates
from cdml_jax.methods.method import Method
from cdml_jax.sampling.mining import MINERS


def alike(
    methods: Mapping[str, Method],
    *,
    composed: float,
    triplet_weight: float,
    pair_beta: float,
    in_batch: str,
) -> list[tuple[str, ...]]:
    """Names of methods that train the same, one tuple for each group of two or more.

    Laws that nothing is drawn by do not count: those of groups where no batch is composed, and that of pairs
    where triplets are mined, or drawn uniformly.

    Args:
      methods: by name.
      composed: share of a batch that is composed, `sampling.composed`.
      triplet_weight, pair_beta: λ and β, `objective.triplet_weight` and `objective.pair_beta`.
      in_batch: law of the drawn triplets, `objective.in_batch`.

    >>> two = {"a": Method("A", miner="batch_hard", composed=True), "b": Method("B", miner="batch_hard")}
    >>> settings = {"triplet_weight": 0.3, "pair_beta": 1.0, "in_batch": "confusion"}
    >>> alike(two, composed=0.0, **settings), alike(two, composed=0.5, **settings)
    ([('a', 'b')], [])
    """
    groups: dict[Method, list[str]] = {}
    for name, method in methods.items():
        composes = method.composed and composed > 0
        miner = method.miner if triplet_weight > 0 else ""
        draws = bool(miner) and MINERS[miner].drawn
        by_pairs = composes or (draws and in_batch == "confusion")
        acting = dataclasses.replace(
            method,
            title="",
            source="",
            composed=composes,
            miner=miner,
            pair_weights=method.pair_weights if by_pairs else by_confusion,
            group_weights=method.group_weights if composes else rates,
            pair_beta=method.pair_beta if pair_beta > 0 else 0.0,
        )
        groups.setdefault(acting, []).append(name)
    return [tuple(names) for names in groups.values() if len(names) > 1]
