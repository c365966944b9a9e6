"""What a method's functions give, checked: whoever wrote them reads which one is wrong, and where."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import numpy as np

from cdml_jax.confusion import PairWeights
from cdml_jax.errors import UserError
from cdml_jax.methods.facts import Facts
from cdml_jax.methods.method import Method

if TYPE_CHECKING:
    from jaxtyping import Float


def class_weights_of(method: Method, facts: Facts) -> Float[np.ndarray, " classes"]:
    """The method's weights of the softmax.

    Raises:
      UserError: the function fails, or does not give a finite number of 0 or more for each class.
    """
    return _by_class(method, "class_weights", facts)


def group_weights_of(method: Method, facts: Facts) -> Float[np.ndarray, " classes"]:
    """The method's law of the anchors of composed groups.

    Raises:
      UserError: as `class_weights_of`.
    """
    return _by_class(method, "group_weights", facts)


def pair_weights_of(method: Method, facts: Facts) -> PairWeights:
    """The method's law by which triplets are drawn.

    Raises:
      UserError: the function fails, or gives no pair weights.
    """
    found = _called(method, "pair_weights", facts)
    # What is drawn on the devices is stored as the confusion's own pair weights are.
    if type(found) is not type(facts.statistics.pairs):
        raise UserError(
            f"{method.title}: pair_weights must give a {type(facts.statistics.pairs).__name__}, as "
            f"facts.statistics.pairs is; it gave {_described(found)}"
        )
    return found


def check(method: Method, facts: Facts) -> None:
    """Call all functions of a method once, before anything slow.

    Raises:
      UserError: one of them fails or gives what cannot be used; or a term lacks what `Term` asks for.
    """
    class_weights_of(method, facts)
    group_weights_of(method, facts)
    pair_weights_of(method, facts)
    for term in method.structure.terms:
        absent = [name for name in ("weight", "prepare", "count") if not callable(getattr(term, name, None))]
        absent += [] if callable(term) else ["__call__"]
        if absent:
            raise UserError(f"{method.title}: term {term.name} lacks {', '.join(absent)}()")
        try:
            weight = float(term.weight(facts.sizes.size))
        except Exception as error:
            raise _failed(method, f"weight of term {term.name}", error) from error
        if not np.isfinite(weight):
            raise UserError(f"{method.title}: the weight of term {term.name} is {weight}")


def _by_class(method: Method, field: str, facts: Facts) -> np.ndarray:
    found, number = _called(method, field, facts), facts.sizes.size
    try:
        weights = np.asarray(found)
        right = weights.shape == (number,) and bool((np.isfinite(weights) & (weights >= 0)).all())
    except (TypeError, ValueError):
        right = False
    if not right:
        raise UserError(
            f"{method.title}: {field} must give {number} finite numbers, one a class, none below 0; "
            f"it gave {_described(found)}"
        )
    return weights


def _called(method: Method, field: str, facts: Facts) -> Any:
    function = getattr(method, field)
    if not callable(function):
        raise UserError(f"{method.title}: {field} must be a function of facts, not {_described(function)}")
    try:
        return function(facts)
    except UserError:
        raise
    except Exception as error:
        raise _failed(method, field, error) from error


def _failed(method: Method, what: str, error: Exception) -> UserError:
    place = traceback.extract_tb(error.__traceback__)[-1]
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return UserError(f"{method.title}: {what} failed ({reason}; {place.filename}, line {place.lineno})")


def _described(value: Any) -> str:
    """Type, and shape or the first number that cannot be used.

    >>> _described(np.array([1.0, -2.0])), _described(None), _described(3.0)
    ('[1, -2]', 'None', '3.0')
    """
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        if np.ndim(value) == 1 and np.size(value) <= 8:
            return f"[{', '.join(f'{number:g}' for number in np.asarray(value).tolist())}]"
        wrong = np.flatnonzero(~(np.isfinite(value) & (np.asarray(value) >= 0)))
        first = f", whose number {wrong[0]} is {np.ravel(value)[wrong[0]]:g}" if wrong.size else ""
        return f"an array of shape {tuple(np.shape(value))}{first}"
    return f"a {type(value).__name__}"
