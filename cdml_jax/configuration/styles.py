"""What a file of trained weights says of itself, as a setting."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from cdml_jax.configuration.settings import Settings
from cdml_jax.models import NETWORKS, STYLES
from cdml_jax.models.weights.files import style_of
from cdml_jax.models.weights.imagenet import IMAGENET
from cdml_jax.system import console

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
    style = style_of(model.weights)
    if style not in STYLES or "style" not in NETWORKS[model.name].family.options:
        return settings  # nothing is said, or it will be refused
    console.say(f"model.style: {style}, as {console.escaped(model.weights)} says of its weights")
    return dataclasses.replace(settings, model=dataclasses.replace(model, style=style))
