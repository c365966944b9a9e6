"""What may stand in the place of an epoch's counts: costs, and predictions on held-out folds."""
