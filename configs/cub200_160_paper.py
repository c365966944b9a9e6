"""CUB-200-2011 at 160 pixels by the paper's own forms: hard counts of the last epoch, raw rates.

Command:  cdml reproduce --config=cub200_160_paper --config.source=cub200:DIR
Hardware: as cub200_160.
Expect:   docs/results.md, "The same number of trials for every method", at its end.
"""

from ml_collections import ConfigDict

from cdml_jax.configs import base, cub200_160


def get_config() -> ConfigDict:
    return base.paper(cub200_160.get_config())
