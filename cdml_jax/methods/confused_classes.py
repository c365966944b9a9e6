"""Which classes meet is decided by confusion, which of their images by hardness."""

from cdml_jax.methods.method import Method

METHODS = {
    "confusion_hard": Method("Confusion groups, hardest triplets", miner="batch_hard", composed=True),
    "confusion_nearest": Method("Confused classes, hardest images", miner="drawn_hard", composed=True),
}
