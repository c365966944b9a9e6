"""What is printed where a stream cannot take it: any name, a closed pipe, a full disk."""

import json
import os
import shlex
import subprocess
import sys

import pytest

PRINTING = """
import json, sys
from cdml_jax.cli.output import OutputError, careful_output, takes_unicode
from cdml_jax.system import console
from cdml_jax.cli import main
class Command:
    @staticmethod
    def add(commands):
        from cdml_jax.cli import arguments
        arguments.add(commands, "speak", "speak")
    @staticmethod
    def run(options):
        for _ in range(int(options.rest[0])):
            console.result(NAME)
        return 0
NAME = "caf\\xe9 \\u9d09 \\udce9"
main.COMMANDS["speak"] = Command
sys.exit(main.main(["speak", *sys.argv[1:]]))
"""


def speak(lines, *, stdout=subprocess.PIPE, **variables):
    return subprocess.run(
        [sys.executable, "-c", PRINTING, str(lines)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=os.environ | variables,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "café 鴉 \\udce9\n".encode()),
        ("ascii", b"caf\\xe9 \\u9d09 \\udce9\n"),
        ("latin-1", b"caf\xe9 \\u9d09 \\udce9\n"),
    ],
)
def test_characters_that_a_stream_lacks_are_escaped(encoding, expected):
    said = speak(1, PYTHONIOENCODING=encoding)
    assert (said.returncode, said.stdout, said.stderr) == (0, expected, b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_ends_in_silence(unbuffered):
    read, write = os.pipe()
    os.close(read)
    said = speak(3, stdout=write, PYTHONUNBUFFERED=unbuffered)
    os.close(write)
    assert (said.returncode, said.stderr) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_disk_that_is_full_is_named_in_one_line(unbuffered):
    with open("/dev/full", "wb") as full:
        said = speak(3, stdout=full, PYTHONUNBUFFERED=unbuffered)
    assert said.returncode == 2
    assert said.stderr == b"cdml: standard output cannot be written (No space left on device)\n"


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_closed_streams_are_no_mistake_and_no_file_gets_their_number(closed):
    opens = "opened.append(open(sys.executable)); console.result(NAME); console.warn(NAME)"
    lowest = "return min(file.fileno() for file in opened)"
    code = "opened = []\n" + PRINTING.replace("console.result(NAME)", opens).replace("return 0", lowest)
    shut = " ".join(f"{number}>&-" for number in closed)
    script = f"exec {shut}; exec {sys.executable} -c {shlex.quote(code)} 1"
    said = subprocess.run(["sh", "-c", script], capture_output=True, timeout=60, check=False)
    assert said.returncode > 2, said
    assert b"Traceback" not in said.stderr


def test_json_stays_json_on_a_stream_of_few_characters(tmp_path):
    code = (
        "from cdml_jax.cli.output import as_json, careful_output\n"
        "with careful_output(): print(as_json({'name': 'caf\\xe9 \\U0001f426 \\udce9'}))"
    )
    for encoding in ("ascii", "utf-8"):
        said = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            env=os.environ | {"PYTHONIOENCODING": encoding},
            check=True,
            timeout=60,
        )
        assert json.loads(said.stdout.decode(encoding))["name"] == "café 🐦 \udce9"
