"""Configurations that cannot work are refused by key."""

import pytest

from cdml_jax.errors import UserError
from cdml_jax.training import settings


def test_the_defaults_pass(config):
    settings.check(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.name": "resnet"}, "model.name: 'resnet' is unknown; choose one of"),
        ({"model.dtype": "float64"}, "model.dtype: float64 needs JAX_ENABLE_X64=1"),
        ({"optimizer.name": "lion"}, "choose one of sgd, adamw"),
        ({"objective.in_batch": "hard"}, "choose one of confusion, uniform"),
        ({"confusion.counts": "firm"}, "choose one of hard, soft"),
        ({"batch_size": 0}, "batch_size: 0 must be at least 1"),
        ({"objective.margin": -0.1}, "objective.margin: -0.1 must be at least 0"),
        ({"confusion.decay": 1.5}, "confusion.decay: 1.5 must be from 0 to 1"),
        ({"confusion.smoothing": float("nan")}, "confusion.smoothing: nan must be at least 0"),
        ({"warmup_epochs": 9}, "warmup_epochs: 9 exceeds epochs, 4"),
        ({"confusion.source": "holdout"}, "set data.holdout or data.holdout_fraction"),
        ({"row": "cdlm"}, "row: 'cdlm' is unknown"),
        ({"reproduce.rows": ("cdml", "cdml")}, "must name each row once"),
        ({"reproduce.rows": ()}, "must name each row once"),
        ({"reproduce.seeds": 0}, "reproduce.seeds: 0 must be at least 1"),
    ],
)
def test_what_cannot_work_is_refused_by_key(config, change, message):
    config.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=message):
        settings.check(config)
