"""What to do while the tracking store is unavailable: try again, and in the end note that it lacks some of the run."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from rich.console import Console

from infra.files import write_atomic
from infra.mlflow.store import UNAVAILABLE
from infra.passwords import masked
from pipelines.console import say
from pipelines.runs import RunFolder
from pipelines.settings import CommonSettings

PAUSE_SECONDS = 30.0
"""Seconds between two attempts while a run is training."""
FINAL_SECONDS = 60.0
"""Seconds for all attempts after training."""

_LOG = logging.getLogger(__name__)


class TrackingRetry:
    """Calls a store that may be unavailable: while training at most every half minute, at the end for a minute."""

    def __init__(self) -> None:
        self.error = ""
        """The message of the last attempt that failed."""
        self._deadline, self._not_before = -math.inf, -math.inf

    def start_final_minute(self) -> None:
        """Training has ended. All attempts from now on share one minute, and wait for the store within it."""
        self._deadline, self._not_before = time.monotonic() + FINAL_SECONDS, -math.inf

    def attempt(self, call: Callable[[], object]) -> bool:
        """Whether `call` succeeded. If not, the caller has to attempt it again later."""
        while time.monotonic() >= self._not_before:
            try:
                call()
                return True
            except UNAVAILABLE as error:
                self.error = " ".join(str(error).split())[:200]
                _LOG.warning("MLflow is away: %s", self.error)
            if time.monotonic() < self._deadline:
                time.sleep(1)
            elif self._deadline > 0:  # the final minute is over
                self._not_before = math.inf
            else:
                self._not_before = time.monotonic() + PAUSE_SECONDS
        return False


class UntrackedNote:
    """A file in the run folder which says that the tracking store lacks some of the run."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._file = folder, folder.untracked

    def __bool__(self) -> bool:
        return self._file.is_file()

    def write(self, reason: str) -> None:
        """Writes the note."""
        write_atomic(self._file, reason.encode())
        self._folder.upload(self._file)

    def clear(self) -> None:
        """Deletes the note if there is one."""
        if self:
            self._folder.delete(self._file)


def print_untracked(console: Console, settings: CommonSettings, verb: str, name: str) -> None:
    """Prints the command that sends the rest."""
    again = f"ganfleet {verb} --resume {name}{settings.storage.command_suffix}"
    say(console, f"tracking     {masked(settings.tracking_uri)} is away and lacks the last of it; to bring it: {again}")


def print_caught_up(console: Console, settings: CommonSettings, name: str) -> None:
    """Prints that the tracking store has all of the run now."""
    say(console, f"tracking     {masked(settings.tracking_uri)} has all of {name} now: what it lacked is brought")
