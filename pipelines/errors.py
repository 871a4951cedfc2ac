"""Errors that end a command in their own way."""

from __future__ import annotations

import os

from gan_core.settings import SettingsError

IN_JOB = "GANFLEET_IN_JOB"
"""An environment variable that is set in a batch job, where nobody can correct the command."""


class InterruptedRunError(Exception):
    """Ctrl-C: the run can be resumed."""


class UnavailableError(SettingsError):
    """The server that a setting names does not answer. The setting may be wrong, or the server may be back later."""


def ends_as_interrupted(error: Exception) -> bool:
    """Whether the error ends a batch job as interrupted, so that it is started again, and not as a user's mistake."""
    return isinstance(error, UnavailableError) and bool(os.environ.get(IN_JOB))
