"""What a shortlist says is sure is so: the bounds hold on products of every kind."""

import jax.numpy as jnp
import numpy as np
import pytest
from hard_sets import hard_sets

from cdml_jax.retrieval.shortlist import Bound, Frame, asked, group_size, shortlist, table


@pytest.mark.parametrize("size", [1, 24, 300, 3000])
@pytest.mark.parametrize("cone", [0, 10])
def test_the_error_of_a_product_is_within_its_bound(size, cone):
    """Upper bounds are above the exact scores, by no more than twice the error."""
    rng = np.random.default_rng(size)
    rows = np.float32(rng.normal(size=(200, size)) * 10.0 ** rng.integers(-3, 3, (200, 1)) + cone)
    frame, bound = Frame.of(rows, rows), Bound.of(size, np.float32)
    references = table(rows, frame, np.float32, bound)
    queries, of_queries = asked(rows, 200, frame, np.float32, bound)
    uppers = np.float64(jnp.matmul(queries, references[0].T, precision="highest"))[:, :200]
    moved = np.longdouble(rows) - frame.centre
    moved *= np.longdouble(2) ** frame.power
    exact = moved @ moved.T - (moved**2).sum(axis=1) / 2
    lengths = np.float64(references[0, :200, -1])
    errors = bound.kappa * lengths * (of_queries[:, :1] + lengths / 2) + of_queries[:, 1:]
    above = np.float64(uppers - exact)
    assert (above >= -of_queries[:, 1:]).all()
    assert (above <= 2 * errors).all()


@pytest.mark.parametrize(
    "name", ["as drawn", "far clusters", "copies", "outliers", "two places", "tight 1e-06"]
)
def test_what_is_said_to_be_sure_is_so(name):
    rows, wanted = hard_sets(240)[name], 9
    frame, bound = Frame.of(rows, rows), Bound.of(rows.shape[1], np.float32)
    given = asked(rows, 240, frame, np.float32, bound)
    indices, ends, sure = shortlist(
        *given,
        table(rows, frame, np.float32, bound)[None, 0],
        number=14,
        wanted=wanted,
        whole=False,
        group=group_size(240, wanted),
        kappa=bound.kappa,
    )
    exact = np.float64(rows)
    distances = ((exact[:, None] - exact) ** 2).sum(axis=-1)
    for row, (found, end) in enumerate(zip(np.asarray(indices), np.asarray(ends))):
        outside = np.delete(distances[row], found)
        if sure[row]:
            # As many as were wanted are nearer than all that is left out.
            assert (distances[row, found] < outside.min()).sum() >= wanted
        for place in np.flatnonzero(end[:-1]):
            before, behind = found[: place + 1], found[place + 1 :]
            assert distances[row, before].max() < distances[row, behind].min()


def test_the_centre_is_among_the_references_whatever_a_few_outliers_are():
    rows = np.float32(np.random.default_rng(0).normal(size=(100, 3)) + 1000)
    rows[:3] = 1e12
    frame = Frame.of(rows, rows)
    assert np.abs(frame.centre - 1000).max() < 1


def test_lengths_are_scaled_by_a_power_of_two():
    for scale in (1e-40, 1e-3, 1.0, 1e18):
        rows = np.float32([[3.0, 4.0], [0.0, 0.0]]) * np.float32(scale)
        frame = Frame.of(rows, rows)
        into = np.zeros((2, 4), np.float32)
        squares = frame.move(rows, into)
        assert 2.0**30 < np.sqrt(squares.max()) <= 2.0**40
        assert (into[:, 2:] == 0).all()
