"""The demo with the paper's own forms: hard counts, rates as class weights, no memory of earlier epochs.

Command:  cdml reproduce --config=demo_paper
Hardware: 2 CPU cores, under 5 minutes.
Expect:   not yet run.
"""

from ml_collections import ConfigDict

from cdml_jax.configs import base, demo


def get_config() -> ConfigDict:
    return base.paper(demo.get_config())
