"""Whether two methods compute the same: a digest of numbers and code, for runs that are continued."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cdml_jax.methods.method import Method

_LABELS = ("title", "source")  # what tables print changes nothing
_STANDARD = sysconfig.get_paths()["stdlib"]
_INSTALLED = ("site-packages", "dist-packages")


def digest_of(method: Method) -> str:
    """SHA-256 of all that decides what a method computes.

    Of functions it is their compiled code, with the values and the functions that they use by name; what
    comes with an installed package counts by its name alone. Comments, titles and other methods of the same
    file change nothing. Another version of Python compiles to other code.

    >>> one = digest_of(Method("One", focal_gamma=2.0))
    >>> one == digest_of(Method("Two", focal_gamma=2.0)), one == digest_of(Method("One", focal_gamma=3.0))
    (True, False)
    """
    digest = hashlib.sha256()
    fields = {f.name: getattr(method, f.name) for f in dataclasses.fields(method) if f.name not in _LABELS}
    for part in _parts(fields, set()):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


def own_digest(method: Method) -> str:
    """The digest that a workdir keeps of a method of a person's own; "" for the package's."""
    from cdml_jax.methods import METHODS  # here: the list of all methods begins with this room

    return "" if method in METHODS.values() else digest_of(method)


def _parts(value: Any, seen: set[int]) -> Iterator[str]:
    """The content of a value as text, piece by piece; each object once."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        yield repr(value)
        return
    if not isinstance(value, tuple | types.CodeType):  # the rest may hold itself
        if id(value) in seen:
            return
        seen.add(id(value))
    yield type(value).__name__
    if isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            yield repr(key)
            yield from _parts(value[key], seen)
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from _parts(inner, seen)
    elif isinstance(value, set | frozenset):
        yield from sorted(map(repr, value))
    elif isinstance(value, types.CodeType):
        yield from _code(value, seen)
    elif isinstance(value, types.FunctionType):
        yield from _function(value, seen)
    elif isinstance(value, functools.partial):
        yield from _parts((value.func, value.args, value.keywords), seen)
    elif isinstance(value, types.MethodType):
        yield from _parts((value.__self__, value.__func__), seen)
    elif isinstance(value, type):
        yield from _class(value, seen)
    elif isinstance(value, types.ModuleType):
        yield _module(value)
    elif isinstance(value, types.BuiltinFunctionType):
        yield f"{value.__module__}.{value.__qualname__}"
    elif isinstance(value, (np.ndarray, np.generic, jax.Array)):
        array = np.asarray(value)
        yield f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
    else:
        # What `jax.jit` and the like made of a function; or a value of a person's own class, and the class.
        yield from _parts(getattr(value, "__wrapped__", None), seen)
        if _is_ours(type(value).__module__) or not _is_known(type(value)):
            yield from _parts(getattr(value, "__dict__", None), seen)
        yield from _class(type(value), seen)


def _class(value: type, seen: set[int]) -> Iterator[str]:
    """A class of a package by its name, a person's own by its functions."""
    yield value.__qualname__
    if _is_known(value):
        yield value.__module__
        return
    for key, inner in sorted(vars(value).items()):
        if not key.startswith("__") or isinstance(inner, types.FunctionType):
            yield key
            unbound = inner.__func__ if isinstance(inner, classmethod | staticmethod) else inner
            yield from _parts(unbound, seen)
    yield from _parts(value.__bases__, seen)


def _module(module: types.ModuleType) -> str:
    """Its name, and of a person's own file the content too."""
    file = getattr(module, "__file__", None)
    if not file or _is_ours(module.__name__) or _is_installed(file):
        return module.__name__
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _function(function: types.FunctionType, seen: set[int]) -> Iterator[str]:
    if _is_ours(function.__module__) or _is_installed(function.__code__.co_filename):
        yield f"{function.__code__.co_name} {function.__qualname__}"
        return
    yield from _code(function.__code__, seen)
    yield from _parts((function.__defaults__, function.__kwdefaults__), seen)
    yield from _parts(tuple(cell.cell_contents for cell in function.__closure__ or ()), seen)
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__:
            yield name
            yield from _parts(function.__globals__[name], seen)


def _code(code: types.CodeType, seen: set[int]) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr((code.co_names, code.co_varnames))
    yield from _parts(code.co_consts, seen)


def _names(code: types.CodeType) -> set[str]:
    """Names that code uses, within its inner functions too."""
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return set(code.co_names).union(*map(_names, inner))


def _is_known(kind: type) -> bool:
    """Whether a class comes with Python or an installed package."""
    module = sys.modules.get(kind.__module__)
    return _is_ours(kind.__module__) or module is None or _is_installed(getattr(module, "__file__", None))


def _is_ours(module: str | None) -> bool:
    return (module or "").partition(".")[0] == "cdml_jax"


def _is_installed(file: str | None) -> bool:
    return not file or file.startswith(_STANDARD) or any(name in file for name in _INSTALLED)
