"""An image and the object that its last map finds, and CDML's costs on both: this library's.

Source: after the object level of Xiao et al., "The Application of Two-Level Attention Models in Deep
Convolutional Neural Network for Fine-Grained Image Classification", CVPR 2015.
"""

import dataclasses

from cdml_jax.methods.cdml import CDML
from cdml_jax.methods.method import Method
from cdml_jax.methods.structure import Structure

STRUCTURE = Structure("object_crop", part="object_crop")
METHODS = {
    "object_crop": Method("Image and object crop", structure=STRUCTURE),
    "cdml_object_crop": dataclasses.replace(CDML, title="CDML on image and object", structure=STRUCTURE),
}
