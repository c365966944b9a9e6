"""What Linux alone has is not needed to import anything, and no process is sent a signal that ends it."""

import os
import subprocess
import sys

from etils.epath import Path

from cdml_jax.system import files

MISSING = ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog")


def test_every_module_is_imported_without_what_windows_lacks():
    code = f"""
import os, pkgutil, signal, sys
for name in {MISSING}: sys.modules[name] = None
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGALRM"): delattr(signal, name)
for name in ("fork", "geteuid", "getuid", "killpg", "sched_getaffinity"): delattr(os, name)
import cdml_jax
for module in pkgutil.walk_packages(cdml_jax.__path__, "cdml_jax."):
    if not module.name.startswith(("cdml_jax.configs", "cdml_jax.__main__")):
        __import__(module.name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_where_no_signal_is_harmless_none_is_sent(tmp_path, monkeypatch):
    sent = []
    place = Path(tmp_path) / "a.json"  # while paths are still those of this system
    (tmp_path / ".a.json.123456.tmp").touch()
    monkeypatch.setattr(os, "kill", lambda *arguments: sent.append(arguments))
    monkeypatch.setattr(os, "name", "nt")
    assert files._leftovers(place) == []
    assert sent == []
