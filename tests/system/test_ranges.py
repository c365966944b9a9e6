"""Each message names the key with its group, the value, and what it may be."""

from types import SimpleNamespace

import pytest

from cdml_jax.errors import UserError
from cdml_jax.system import ranges


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda s: ranges.at_least("g.", s, low=1), "g.low: 0 must be at least 1"),
        (lambda s: ranges.at_least("g.", s, nan=0), "g.nan: nan must be at least 0"),
        (lambda s: ranges.at_least("", s, inf=0), "inf: inf must be finite"),
        (lambda s: ranges.shares("g.", s, "low", "high"), "g.high: 1.5 must be from 0 to 1"),
        (lambda s: ranges.shares("g.", s, "nan"), "g.nan: nan must be from 0 to 1"),
        (lambda s: ranges.one_of("g.", s, word=("", "b")), "g.word: 'a' is unknown; choose one of \"\", b"),
        (lambda s: ranges.names("g.", s, "names"), "g.names: 2 is not a name"),
    ],
)
def test_what_is_out_of_range_is_refused(check, message):
    settings = SimpleNamespace(low=0, high=1.5, nan=float("nan"), inf=float("inf"), word="a", names=("a", 2))
    with pytest.raises(UserError) as refused:
        check(settings)
    assert str(refused.value) == message


def test_bounds_themselves_are_in_range():
    settings = SimpleNamespace(zero=0, one=1.0, word="b", names=("a",))
    ranges.at_least("g.", settings, zero=0, one=1)
    ranges.shares("g.", settings, "zero", "one")
    ranges.one_of("g.", settings, word=("a", "b"))
    ranges.names("g.", settings, "names")
