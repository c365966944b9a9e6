"""A configuration by its name or its file, which is executed once, with the overrides of a command line."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import TYPE_CHECKING, Any

from etils import epath

from cdml_jax.configuration import keys
from cdml_jax.errors import UserError
from cdml_jax.system.files import path_of

if TYPE_CHECKING:
    from cdml_jax.configuration.settings import Settings


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What a configuration gives.

    Attributes:
      settings: with all overrides.
      name: the configuration's own, by which a workdir is called if none is given.
      methods: what the file's `get_methods()` gave, by name; empty where it has none.
    """

    settings: Settings
    name: str
    methods: Mapping[str, Any]


def shipped_configs() -> list[str]:
    """Names that `--config=NAME` takes, besides files."""
    names = (path.name for path in resources.files("cdml_jax.configs").iterdir())
    return sorted(
        name[:-3] for name in names if name.endswith(".py") and name not in ("__init__.py", "base.py")
    )


def config_file(name: str) -> str:
    """Path of a configuration that the package ships."""
    return str(resources.files("cdml_jax.configs").joinpath(f"{name}.py"))


def load(name: str, overrides: Mapping[str, str] | None = None) -> Loaded:
    """A configuration with its overrides; its file is executed once.

    Args:
      name: one that the package ships, or a file with `get_config()` and perhaps `get_methods()`.
      overrides: text by dotted keys, as flags have it.

    Raises:
      UserError: there is no such configuration or it cannot be executed; a key that does not exist, a value
        of another type or one that cannot work.
    """
    file = _found(name)
    module = _shipped(name) if name in shipped_configs() else _executed(file)
    values, methods = _called(module, file)
    values = keys.overridden(values, overrides or {})
    # Here: a misspelt key is answered before JAX is loaded.
    from cdml_jax.configuration.settings import from_plain

    return Loaded(from_plain(values), file.stem, methods)


def load_arguments(arguments: Sequence[str]) -> Loaded:
    """The configuration that a command line chooses.

    Args:
      arguments: `--config=NAME` once and `--config.KEY=VALUE`, in any order; the last of a key counts.

    Raises:
      UserError: as `load`, or an argument of another kind.
    """
    chosen = [a.partition("=")[2] for a in arguments if a.startswith("--config=")]
    if len(chosen) != 1 or not chosen[0]:
        raise UserError(
            f"one --config=NAME is needed; NAME is a file or one of {', '.join(shipped_configs())}"
        )
    _found(chosen[0])  # the first mistake is named first
    overrides = {}
    for argument in arguments:
        if not argument.startswith(("--config=", "--config.")) or "=" not in argument:
            raise UserError(
                f"unknown argument {argument!r}; options are those of --help and --config.KEY=VALUE"
            )
        if argument.startswith("--config."):
            key, _, overrides[key] = argument.removeprefix("--config.").partition("=")
    return load(chosen[0], overrides)


def _found(name: str) -> epath.Path:
    if name in shipped_configs():
        return epath.Path(config_file(name))
    file = path_of(name)
    if not file.is_file():
        raise UserError(f"--config: no file {name}; shipped ones are {', '.join(shipped_configs())}")
    return file


def _shipped(name: str) -> ModuleType:
    return importlib.import_module(f"cdml_jax.configs.{name}")


class _Loader(SourceFileLoader):
    """Leaves no compiled file in a person's folder."""

    def __init__(self, name: str, file: str, content: bytes):
        super().__init__(name, file)
        self._content = content

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self._content, self.path)


def _executed(file: epath.Path) -> ModuleType:
    """A person's file as a module of a name of its own."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"--config: {file} cannot be opened ({error.strerror or error})") from error
    digest = hashlib.sha256(content).hexdigest()
    loader = _Loader(f"cdml_jax_config_{digest[:16]}", os.fspath(file), content)
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module  # as importlib does: dataclasses look their module up
    beside = os.fspath(file.parent)
    sys.path.insert(0, beside)  # as Python does for a script, so that it can import what lies beside it
    try:
        with _Naming(file):
            loader.exec_module(module)
    finally:
        sys.path.remove(beside)
    return module


def _called(module: ModuleType, file: epath.Path) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Values and methods that a configuration's functions give."""
    from ml_collections import ConfigDict

    if not hasattr(module, "get_config"):
        raise UserError(f"--config: {file} has no get_config(); begin with base.get_config()")
    with _Naming(file):
        config = module.get_config()
        methods = module.get_methods() if hasattr(module, "get_methods") else {}
        values = config.to_dict() if isinstance(config, ConfigDict) else None
    if values is None:
        raise UserError(
            f"--config: get_config() gave {type(config).__name__}, not a ConfigDict; "
            "begin with base.get_config() of cdml_jax.configs"
        )
    if not isinstance(methods, Mapping) or not all(isinstance(name, str) for name in methods):
        raise UserError(f"--config: {file}: get_methods() must give a dictionary of methods by their names")
    return values, methods


class _Naming:
    """Inside it, whatever a person's program raises becomes a message that names the file and the line."""

    def __init__(self, file: epath.Path):
        self.file = os.fspath(file)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, Exception | SystemExit) or isinstance(error, UserError):
            return
        lines = [f.lineno for f in traceback.extract_tb(trace) if f.filename == self.file]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        where = f", line {lines[-1]}" if lines else ""
        raise UserError(f"--config: {self.file} cannot be loaded ({reason}{where})") from error
