"""What a file of trained weights, or another run, says of the network that it is of, as a setting."""

from __future__ import annotations

import dataclasses
import json
from typing import TypeVar

from etils.epath import Path

from cdml_jax.configuration.places import is_file
from cdml_jax.configuration.settings import Settings
from cdml_jax.models import NETWORKS, STYLES
from cdml_jax.models.weights.files import style_of
from cdml_jax.models.weights.imagenet import IMAGENET
from cdml_jax.system import console
from cdml_jax.system.files import path_of

S = TypeVar("S", bound=Settings)


def styled(settings: S) -> S:
    """The settings with the style that the file of `model.weights` names, where none is set; a line says so.

    Raises:
      UserError: there is no such file.
    """
    model = settings.model
    # What `imagenet` stands for is of the network's own style.
    if model.weights in ("", IMAGENET) or model.style or model.name not in NETWORKS:
        return settings
    folder = path_of(model.weights) if is_file(model.weights) else None
    if folder is not None and not (folder.exists() or "#" in folder.name):
        return settings  # a run that has begun does without; else it is said later
    style = _of_run(folder) if folder is not None and folder.is_dir() else style_of(model.weights)
    if style not in STYLES or "style" not in NETWORKS[model.name].family.options:
        return settings  # nothing is said, or it will be refused
    console.say(f"model.style: {style}, as {console.escaped(model.weights)} says of its weights")
    return dataclasses.replace(settings, model=dataclasses.replace(model, style=style))


def _of_run(folder: Path) -> str:
    """The style of the network that a run trained; "" where none can be read, which is said later."""
    try:
        return str(json.loads((folder / "config.json").read_text())["config"]["model"]["style"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return ""
