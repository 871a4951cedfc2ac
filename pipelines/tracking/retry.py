"""A tracking store that is away: it is asked again, and what it lacks in the end is noted, to be brought later."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from rich.console import Console

from infra.files import write_atomic
from infra.mlflow.store import AWAY
from infra.passwords import masked
from pipelines.console import say
from pipelines.runs import RunFolder
from pipelines.settings import Where

PAUSE = 30.0
"""Seconds for which a store that was away is not asked again, while something is played."""
PATIENCE = 60.0
"""Seconds for which it is asked at the end."""

_LOG = logging.getLogger(__name__)


class Patience:
    """Asks a store that may be away: while something is played only now and then, at the end for a minute."""

    def __init__(self) -> None:
        self.error = ""
        """Of what was asked last in vain."""
        self._last, self._not_before = -math.inf, -math.inf

    def insist(self) -> None:
        """Nothing is left to do but to wait: there is a minute for all that is asked from now on."""
        self._last, self._not_before = time.monotonic() + PATIENCE, -math.inf

    def done(self, ask: Callable[[], object]) -> bool:
        """Whether it was done. What was not is to be asked again, later."""
        while time.monotonic() >= self._not_before:
            try:
                ask()
                return True
            except AWAY as error:
                self.error = " ".join(str(error).split())[:200]
                _LOG.warning("MLflow is away: %s", self.error)
            if time.monotonic() < self._last:
                time.sleep(1)
            elif self._last > 0:  # the minute is over
                self._not_before = math.inf
            else:
                self._not_before = time.monotonic() + PAUSE
        return False


class Owed:
    """The note in a run's folder that its tracking store lacks some of it."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._file = folder, folder.untracked

    def __bool__(self) -> bool:
        return self._file.is_file()

    def note(self, why: str) -> None:
        """Leaves it."""
        write_atomic(self._file, why.encode())
        self._folder.put(self._file)

    def settle(self) -> None:
        """Takes it back."""
        if self:
            self._folder.drop(self._file)


def say_owed(console: Console, settings: Where, verb: str, name: str) -> None:
    """Says how the rest is brought."""
    again = f"ganfleet {verb} --resume {name}{settings.storage.argument}"
    say(console, f"tracking     {masked(settings.tracking_uri)} is away and lacks the last of it; to bring it: {again}")


def say_brought(console: Console, settings: Where, name: str) -> None:
    """Says that nothing is owed any more."""
    say(console, f"tracking     {masked(settings.tracking_uri)} has all of {name} now: what it lacked is brought")
