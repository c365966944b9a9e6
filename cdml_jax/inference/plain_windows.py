"""Pooling in a form that other formats know: windows over rows and columns alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Literal, primitives

_WINDOWS = {primitives.reduce_window_max_p, primitives.reduce_window_sum_p}
# Primitives that call one jaxpr, as it is, with their own arguments.
_CALLS = {"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat2"}


def with_plain_windows(traced: ClosedJaxpr) -> Callable[..., list[jax.Array]]:
    """The function of a jaxpr, its windows over images (batch, height, width, channels) in three dimensions.

    ONNX's pooling moves windows in one to three dimensions, and jax2onnx takes all dimensions of an array for
    such. Each channel of each image is therefore pooled as an image of its own.
    """
    return lambda *arguments: _evaluated(traced.jaxpr, traced.consts, arguments)


def _evaluated(jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arguments)))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else known[variable]

    for equation in jaxpr.eqns:
        inputs = list(map(read, equation.invars))
        parameters = equation.params
        if equation.primitive in _WINDOWS and _over_images(parameters):
            outputs = [_folded(equation.primitive, inputs[0], parameters)]
        elif equation.primitive.name in _CALLS:
            inner: Any = parameters.get("jaxpr", parameters.get("call_jaxpr"))
            closed = isinstance(inner, ClosedJaxpr)
            outputs = _evaluated(inner.jaxpr if closed else inner, inner.consts if closed else (), inputs)
        else:
            found = equation.primitive.bind(*inputs, **parameters)
            outputs = found if equation.primitive.multiple_results else [found]
        known |= zip(equation.outvars, outputs)
    return list(map(read, jaxpr.outvars))


def _over_images(parameters: dict[str, Any]) -> bool:
    """Whether windows move over the rows and columns of (batch, height, width, channels) and nothing else."""
    window, strides, padding = (
        parameters[name] for name in ("window_dimensions", "window_strides", "padding")
    )
    others = [(window[k], strides[k], tuple(padding[k])) for k in (0, -1)]
    return len(window) == 4 and all(other == (1, 1, (0, 0)) for other in others)


def _folded(primitive: Any, x: jax.Array, parameters: dict[str, Any]) -> jax.Array:
    """The windows of (batch, height, width, channels) over (batch * channels, height, width)."""
    _, height, width, channels = x.shape
    images = x.transpose(0, 3, 1, 2).reshape(-1, height, width)
    pooled = primitive.bind(images, **{name: tuple(value[:3]) for name, value in parameters.items()})
    return pooled.reshape(-1, channels, *pooled.shape[1:]).transpose(0, 2, 3, 1)
