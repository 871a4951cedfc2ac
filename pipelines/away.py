"""What does not answer now and may later: a person is told of a setting, a batch job ends so that it is begun again."""

from __future__ import annotations

import os

from gan_core.settings import SettingsError

IN_JOB = "GANFLEET_IN_JOB"
"""Of the environment: set in a batch job, where nobody corrects what was typed."""


class AwayError(SettingsError):
    """What a setting names does not answer; it may be the wrong one, or be back later."""


def may_be_back(error: Exception) -> bool:
    """Whether to end as interrupted for it, not as for a mistake."""
    return isinstance(error, AwayError) and bool(os.environ.get(IN_JOB))
