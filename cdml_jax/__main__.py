"""`python -m cdml_jax`: the command line."""

import sys

from cdml_jax.cli import start

sys.exit(start())
