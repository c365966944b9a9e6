"""Which classes meet is decided by confusion, which images by hardness: composed groups, then batch-hard."""

from cdml_jax.methods.method import Method

CONFUSION_HARD = Method("Confusion groups, hardest triplets", miner="batch_hard", composed=True)
