"""Softly updated dropping, for images with wrong labels: those whose predictions change most are left out.

Every image is still seen each epoch, so that what is left out in one epoch may come back in the next.

Source: Zhang, Yao, Liu et al., "Web-Supervised Network with Softly Update-Drop Training for Fine-Grained
Visual Classification", AAAI 2020.
"""

import dataclasses

from cdml_jax.methods.cdml import CDML
from cdml_jax.methods.method import Method
from cdml_jax.methods.structure import Dropping, Structure

STRUCTURE = Structure("dropping", dropping=Dropping())
METHODS = {
    "dropping": Method("Softly updated dropping", "Zhang et al., AAAI 2020", structure=STRUCTURE),
    "cdml_dropping": dataclasses.replace(CDML, title="CDML on softly updated dropping", structure=STRUCTURE),
}
