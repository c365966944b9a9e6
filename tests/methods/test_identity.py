"""A method is known by what it computes: code and numbers count, comments and neighbours do not."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from cdml_jax.methods import METHODS
from cdml_jax.methods.identity import digest_of, own_digest

FILE = """
import dataclasses, functools
import jax, numpy as np
from cdml_jax.methods import Method
from cdml_jax.methods.structure import Structure

FACTOR = 2.0
TABLE = np.arange(4)

def helper(x):
    return x * FACTOR + TABLE[1]

@jax.jit
def compiled(x):
    return x + 1

def power(facts, exponent):
    return facts.sizes**exponent

@dataclasses.dataclass(frozen=True)
class Term:
    share: float = 0.5
    name: str = "term"
    def weight(self, num_classes): return helper(num_classes)
    def prepare(self, labels, draw): return labels
    def count(self, prepared): return prepared.sum()
    def __call__(self, logits, embeddings, labels, prepared): return compiled(logits).sum()

def method():
    return Method("Mine", class_weights=lambda facts: helper(facts.sizes), group_weights=functools.partial(
        power, exponent=-0.5), structure=Structure("s", (Term(),)))
"""


def digest(text=FILE, name="of_a_person"):
    module = types.ModuleType(name)
    module.__file__ = "/home/person/methods.py"
    sys.modules[name] = module
    try:
        exec(compile(text, module.__file__, "exec"), vars(module))
        return digest_of(module.method())
    finally:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("FACTOR = 2.0", "FACTOR = 2.5"),
        ("np.arange(4)", "np.arange(4) * 2"),
        ("x * FACTOR +", "x * FACTOR -"),
        ("return x + 1", "return x + 2"),
        ("exponent=-0.5", "exponent=-1.5"),
        ("share: float = 0.5", "share: float = 0.25"),
        ("compiled(logits).sum()", "compiled(logits).mean()"),
        ("helper(facts.sizes)", "helper(facts.statistics.rates)"),
        ("prepared.sum()", "prepared.sum() + 1"),
    ],
)
def test_what_is_computed_counts(old, new):
    assert FILE.count(old) == 1
    assert digest(FILE.replace(old, new)) != digest()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("FACTOR = 2.0", "# of sizes\nFACTOR = 2.0\nUNUSED = 7"),
        ('Method("Mine"', 'Method("Of mine"'),
        ("def power(", "def another(facts):\n    return facts.sizes\n\ndef power("),
    ],
)
def test_comments_titles_and_neighbours_do_not(old, new):
    assert FILE.count(old) == 1
    assert digest(FILE.replace(old, new)) == digest()


def test_the_name_of_the_module_does_not():
    assert digest(name="another") == digest()


def test_it_is_the_same_in_every_process(tmp_path):
    (tmp_path / "mine.py").write_text(FILE)
    program = "import mine; from cdml_jax.methods.identity import digest_of; print(digest_of(mine.method()))"
    places = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    seen = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONPATH": places, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert len(seen[0]) == 65
    assert seen[0] == seen[1]


def test_the_packages_methods_need_none_and_all_differ():
    assert not any(map(own_digest, METHODS.values()))
    assert len({digest_of(method) for method in METHODS.values()}) == len(METHODS)
