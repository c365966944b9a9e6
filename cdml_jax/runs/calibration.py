"""One number by which logits are divided so that probabilities are as often right as they say."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import numpy as np
from etils.epath import Path
from scipy.optimize import brentq
from scipy.special import log_softmax, softmax

from cdml_jax.system import console
from cdml_jax.system.archives import intact, sealed
from cdml_jax.system.files import write_json

if TYPE_CHECKING:
    from jaxtyping import Float, Integer

FILE = "calibration.json"
LIMITS = (0.05, 20.0)
"""Temperatures that are tried: outside them all answers are certain, or all are equally likely."""
_CHUNK = 1 << 24  # logits that are held in float64 at once
_EXACT = 1e-6


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A temperature, what it was fitted on, and what it changed.

    Attributes:
      temperature: T; probabilities are softmax(logits / T).
      epoch: of the network that it belongs to.
      split: whose images it was fitted on.
      images: how many.
      loss, calibrated_loss: mean −log p of the images' own classes, before and after.
      error, calibrated_error: expected calibration error, before and after.
    """

    temperature: float
    epoch: int
    split: str
    images: int
    loss: float
    calibrated_loss: float
    error: float
    calibrated_error: float


def fit_temperature(
    logits: Float[np.ndarray, "images classes"], labels: Integer[np.ndarray, " images"]
) -> float:
    r"""The temperature under which the images' own classes are likeliest.

    .. math:: \arg\min_T \; -\sum_i \log \text{softmax}(z_i / T)_{y_i}

    The sum is convex in 1/T, so its derivative Σ_i (E_p z_i − z_{i, y_i}) has one zero at most.

    Args:
      logits: z, at least one row.
      labels: y.

    Returns:
      T, within `LIMITS`: a limit where the likelihood still grows there, as it does at the lower one where
      every answer is right.

    >>> logits = np.log([[0.9, 0.1]] * 10)
    >>> round(fit_temperature(2 * logits, np.array([0] * 9 + [1])), 4)
    2.0

    Source: C. Guo, G. Pleiss, Y. Sun and K. Weinberger, "On Calibration of Modern Neural Networks", ICML
    2017, section 4.2.
    """

    def slope(log_inverse: float) -> float:
        inverse, total = np.exp(log_inverse), 0.0
        for rows, own in _chunks(logits, labels):
            total += float((softmax(inverse * rows, axis=1) * rows).sum() - own.sum())
        return total / len(labels)

    low, high = -np.log(LIMITS[1]), -np.log(LIMITS[0])
    if slope(low) >= 0:
        return LIMITS[1]
    if slope(high) <= 0:
        return LIMITS[0]
    return float(np.exp(-brentq(slope, low, high, xtol=_EXACT)))


def mean_loss(
    logits: Float[np.ndarray, "images classes"], labels: Integer[np.ndarray, " images"], temperature: float
) -> float:
    """Mean −log softmax(logits / temperature) of the images' own classes."""
    total = 0.0
    start = 0
    for rows, _ in _chunks(logits, labels):
        logs = log_softmax(rows / temperature, axis=1)
        total -= float(logs[np.arange(len(rows)), labels[start : start + len(rows)]].sum())
        start += len(rows)
    return total / len(labels)


def _chunks(logits: np.ndarray, labels: np.ndarray):
    """Rows in float64 with the logits of their own classes, a part at a time."""
    step = max(1, _CHUNK // logits.shape[1])
    for start in range(0, len(logits), step):
        rows = logits[start : start + step].astype(np.float64)
        yield rows, rows[np.arange(len(rows)), labels[start : start + step]]


def write(workdir: Path, calibration: Calibration, *, best: bool) -> Path:
    """Keep the calibration of a run's last network, or of its best; returns the path.

    Raises:
      UserError: it cannot be written.
    """
    kept = {name: value for name, value in _stored(workdir).items() if name in ("last", "best")}
    kept["best" if best else "last"] = dataclasses.asdict(calibration)
    write_json(workdir / FILE, sealed(kept))
    return workdir / FILE


def read(workdir: Path, epoch: int, *, best: bool) -> Calibration | None:
    """The calibration of a run's network; None where there is none.

    One of another epoch, or that was edited, is a warning and not used.

    Args:
      workdir: of the run.
      epoch: how many the network was trained.
      best: whether it is that of the best epoch.
    """
    stored = _stored(workdir).get("best" if best else "last")
    if stored is None:
        return None
    found = Calibration(**stored)
    if found.epoch != epoch:
        console.warn(
            f"{workdir / FILE} is of epoch {found.epoch}, the network of epoch {epoch}: probabilities are "
            "not calibrated; cdml calibrate fits them again"
        )
        return None
    return found


def _stored(workdir: Path) -> dict:
    path = workdir / FILE
    if not path.exists():
        return {}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not intact(stored):
            raise ValueError("it was edited or damaged")
    except (OSError, ValueError, RecursionError) as error:
        console.warn(f"{path} is not used ({error}): cdml calibrate writes it again")
        return {}
    return stored
