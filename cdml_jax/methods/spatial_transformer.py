"""Two crops that a localization network places, and CDML's costs on them.

Source: Jaderberg, Simonyan, Zisserman and Kavukcuoglu, "Spatial Transformer Networks", NIPS 2015.
"""

import dataclasses

from cdml_jax.methods.cdml import CDML
from cdml_jax.methods.method import Method
from cdml_jax.methods.structure import Structure

STRUCTURE = Structure("spatial_transformer", part="spatial_transformer")
METHODS = {
    "spatial_transformer": Method("Spatial transformer", "Jaderberg et al., NIPS 2015", structure=STRUCTURE),
    "cdml_spatial_transformer": dataclasses.replace(
        CDML, title="CDML on a spatial transformer", structure=STRUCTURE
    ),
}
