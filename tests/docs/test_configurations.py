"""Configurations that pages and launchers name are there."""

import re
from pathlib import Path

import pytest

from cdml_jax.configuration.load import shipped_configs

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("launch/*.sh"), *ROOT.glob("configs/*.py")]


def named_on(page):
    return set(re.findall(r"--config=([a-z]\w*)(?![\w./*])", page.read_text()))


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: page.name)
def test_named_configurations_are_shipped(page):
    assert named_on(page) <= set(shipped_configs())


def test_there_are_pages_that_name_some():
    assert len(set().union(*map(named_on, PAGES))) > 10
