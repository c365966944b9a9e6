"""The one error that a person's mistake raises; the command line prints it without a traceback."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake in a configuration, a folder or a flag: what is wrong, where, and what to do about it."""
