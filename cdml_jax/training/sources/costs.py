"""The cost matrix that `confusion.source` puts in the place of counts."""

from __future__ import annotations

import numpy as np

from cdml_jax.confusion.costs import checked_costs, taxonomy_costs
from cdml_jax.data.classes import Classes
from cdml_jax.data.readers.cost_matrix import read_costs
from cdml_jax.errors import UserError
from cdml_jax.training.settings import COUNTED, FILE, TAXONOMY
from cdml_jax.training.storage import Storage


def cost_matrix(source: str, classes: Classes, storage: Storage) -> np.ndarray | None:
    """Costs M (C, C) float32 of a `confusion.source`; None where the source is counted.

    Args:
      source: "train", "holdout" or "out_of_fold", which are counted; "taxonomy", or "file:PATH".
      classes: of the data set.
      storage: of the pair weights.

    Raises:
      UserError: the data set has no families, the file cannot be used, or pair weights are not kept whole.
    """
    if source in COUNTED:
        return None
    if not storage.whole_pairs:
        raise UserError(
            f"confusion.source: {source} needs the weights of all pairs; set confusion.storage=dense"
        )
    if source == TAXONOMY:
        if classes.families is None:
            raise UserError(
                "confusion.source: taxonomy needs families of classes, which this data set does not have; "
                "nest the class folders below folders of their families"
            )
        return checked_costs(taxonomy_costs(np.array(classes.families)))
    try:
        return checked_costs(read_costs(source.removeprefix(FILE), classes), classes.names)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"confusion.source: {source}: {error}") from error
