"""Networks with initial parameters, made as a run makes them: by one program, not by one an array."""

import jax
from flax import nnx

from cdml_jax.models import build
from cdml_jax.training.state import split_model


def built(name, spec, seed=0):
    """The network with the parameters of a seed."""
    graph, *_ = split_model(nnx.eval_shape(lambda: build(name, spec, rngs=nnx.Rngs(0))))
    init = jax.jit(
        lambda: split_model(build(name, spec, rngs=nnx.Rngs(seed)))[1:],
        compiler_options={"xla_backend_optimization_level": 1},
    )
    return nnx.merge(graph, *init())
