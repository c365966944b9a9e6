"""Progressive multi-granularity training: four updates a batch, from small blocks to the whole image.

Source: Du, Chang, Bhunia, Xie, Ma, Song and Guo, "Fine-Grained Visual Classification via Progressive
Multi-Granularity Training of Jigsaw Patches", ECCV 2020. In the authors' code too each update runs the whole
network forward, so that all running statistics see all views.
"""

import dataclasses

from cdml_jax.methods.cdml import CDML
from cdml_jax.methods.method import Method
from cdml_jax.methods.structure import Structure, Substep

SUBSTEPS = (
    Substep("jigsaw8", "stage1_logits"),
    Substep("jigsaw4", "stage2_logits"),
    Substep("jigsaw2", "stage3_logits"),
    Substep(weight=2.0),
)
STRUCTURE = Structure("pmg", part="pmg", substeps=SUBSTEPS)
PUBLISHED = Structure("pmg_published", part="pmg_published", substeps=SUBSTEPS)
_SOURCE = "Du et al., ECCV 2020"
METHODS = {
    "pmg": Method("Progressive multi-granularity", _SOURCE, structure=STRUCTURE),
    "pmg_published": Method("Progressive multi-granularity, wide", _SOURCE, structure=PUBLISHED),
    "cdml_pmg": dataclasses.replace(CDML, title="CDML on progressive granularity", structure=STRUCTURE),
}
