"""The paper's four methods: the baseline, each of its two costs alone, and both.

Source: J. Zhao and Y. Peng, "Cost-Sensitive Deep Metric Learning for Fine-Grained Image Classification",
MultiMedia Modeling (MMM), 2018, table 2.
"""

from cdml_jax.methods.facts import by_error_rate
from cdml_jax.methods.method import Method

_SOURCE = "Zhao and Peng, MMM 2018"

CDML = Method("CDML", _SOURCE, class_weights=by_error_rate, miner="drawn", composed=True)
METHODS = {
    "baseline": Method("Baseline"),
    "weighted_softmax": Method("Weighted softmax", _SOURCE, class_weights=by_error_rate),
    "confusion_driven": Method("Confusion driven metric learning", _SOURCE, miner="drawn", composed=True),
    "cdml": CDML,
}
PAPER = tuple(METHODS)
