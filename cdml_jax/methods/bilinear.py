"""Bilinear pooling in the place of the mean, whole or compact, and CDML's costs on it.

Source: Lin, RoyChowdhury and Maji, "Bilinear CNN Models for Fine-grained Visual Recognition", ICCV 2015; Gao,
Beijbom, Zhang and Darrell, "Compact Bilinear Pooling", CVPR 2016.
"""

import dataclasses

from cdml_jax.methods.cdml import CDML
from cdml_jax.methods.method import Method
from cdml_jax.methods.structure import Structure

WHOLE = Structure("bilinear", part="bilinear")
COMPACT = Structure("compact_bilinear", part="compact_bilinear")
METHODS = {
    "bilinear": Method("Bilinear pooling", "Lin et al., ICCV 2015", structure=WHOLE),
    "compact_bilinear": Method("Compact bilinear pooling", "Gao et al., CVPR 2016", structure=COMPACT),
    "cdml_bilinear": dataclasses.replace(CDML, title="CDML on bilinear pooling", structure=WHOLE),
    "cdml_compact_bilinear": dataclasses.replace(
        CDML, title="CDML on compact bilinear pooling", structure=COMPACT
    ),
}
