"""Pooling in operations that other formats know: windows as shifted images."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal, primitives

_COMBINED: dict[Any, tuple[Callable[[Any, Any], Any], float]] = {
    primitives.reduce_window_max_p: (jnp.maximum, -np.inf),
    primitives.reduce_window_sum_p: (operator.add, 0.0),
}

# Primitives that call one jaxpr, as it is, with their own arguments.
_CALLS = {"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat2"}


def with_plain_windows(traced: ClosedJaxpr) -> Callable[..., list[jax.Array]]:
    """The function of a jaxpr with each maximum or sum over windows in the place of XLA's own.

    ONNX's pooling takes images whose channels come first, and three dimensions at most. The maximum, or the
    sum, over a window of rows and columns of (batch, height, width, channels) is that of the shifted images
    which its places see.
    """
    return lambda *arguments: _evaluated(traced.jaxpr, traced.consts, arguments)


def _evaluated(jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arguments)))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else known[variable]

    for equation in jaxpr.eqns:
        inputs = list(map(read, equation.invars))
        parameters = dict(equation.params)
        inner: Any = parameters.get("jaxpr", parameters.get("call_jaxpr"))
        if equation.primitive in _COMBINED and not _dilated(parameters):
            outputs = [_combined(inputs[0], parameters, *_COMBINED[equation.primitive])]
        elif equation.primitive.name in _CALLS:
            closed = isinstance(inner, ClosedJaxpr)
            outputs = _evaluated(inner.jaxpr if closed else inner, inner.consts if closed else (), inputs)
        else:
            found = equation.primitive.bind(*inputs, **parameters)
            outputs = found if equation.primitive.multiple_results else [found]
        known |= zip(equation.outvars, outputs)
    return list(map(read, jaxpr.outvars))


def _dilated(parameters: dict[str, Any]) -> bool:
    return any(step != 1 for key in ("base_dilation", "window_dilation") for step in parameters[key])


def _combined(x: jax.Array, parameters: dict[str, Any], combine: Callable, nothing: float) -> jax.Array:
    window, strides = parameters["window_dimensions"], parameters["window_strides"]
    pads = [(int(before), int(behind), 0) for before, behind in parameters["padding"]]
    if any(before or behind for before, behind, _ in pads):
        x = jax.lax.pad(x, jnp.asarray(nothing, x.dtype), pads)
    # Of each dimension in which the window is wider than one, all places; the others are taken whole.
    places = itertools.product(*(range(size) for size in window))
    return reduce(combine, (x[_seen(x.shape, place, window, strides)] for place in places))


def _seen(
    shape: Sequence[Any], place: Sequence[int], window: Sequence[int], strides: Sequence[int]
) -> tuple[slice, ...]:
    return tuple(
        slice(None) if size == stride == 1 else slice(at, at + (whole - size) // stride * stride + 1, stride)
        for at, whole, size, stride in zip(place, shape, window, strides)
    )
