"""The restart, in a process of its own: what it sees of itself before and after."""

import os
import subprocess
import sys

import pytest

from cdml_jax.system import huge_pages

PROGRAM = """
import os, sys
from pathlib import Path
from cdml_jax.system import huge_pages
huge_pages._SYSTEM = Path(sys.argv[1])
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), sys.argv[2:], flush=True)
huge_pages.restart_with_huge_pages()
"""


@pytest.fixture
def seen(tmp_path):
    def run(system: str, **environment: str) -> list[list[str]]:
        program = tmp_path / "program.py"
        program.write_text(PROGRAM)
        setting = tmp_path / "enabled"
        setting.write_text(system)
        kept = {key: value for key, value in os.environ.items() if key != huge_pages._VARIABLE}
        done = subprocess.run(
            [sys.executable, "-X", "dev", program, setting, "a b"],
            env=kept | environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return [line.split(maxsplit=2) for line in done.stdout.splitlines()]

    return run


def test_where_pages_are_asked_for_it_starts_again_with_the_same_number_and_arguments(seen):
    (process, before, arguments), after = seen("always [madvise] never")
    assert before == "None"
    assert after == [process, "glibc.malloc.hugetlb=1", arguments]


def test_where_they_come_anyway_or_never_it_goes_on(seen):
    assert len(seen("[always] madvise never")) == 1
    assert len(seen("always madvise [never]")) == 1


def test_what_somebody_set_stays(seen):
    ((_, kept, _),) = seen("always [madvise] never", GLIBC_TUNABLES="glibc.malloc.perturb=0")
    assert kept == "glibc.malloc.perturb=0"
