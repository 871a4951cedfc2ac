"""What to do while the tracking store is away or refuses: try again or not, and note that it lacks some of the run."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from infra.files import write_atomic
from infra.mlflow.errors import STORE_ERRORS, reason_of, refuses
from infra.passwords import masked
from pipelines.console import say
from pipelines.runs import RunFolder
from pipelines.settings import CommonSettings

PAUSE_SECONDS = 30.0
"""Seconds between two attempts while a run is training."""
FINAL_SECONDS = 60.0
"""Seconds for all attempts after training."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """Why the tracking store did not get something."""

    reason: str
    refused: bool
    """Whether the store refused it, so that waiting is of no use; otherwise it is away."""


class TrackingRetry:
    """Calls a store that may be away: while training at most every half minute, at the end for a minute."""

    def __init__(self) -> None:
        self.failure: Failure | None = None
        """The last attempt that failed; None once training has ended, until one fails again."""
        self._deadline, self._not_before = -math.inf, -math.inf

    def start_final_minute(self) -> None:
        """Training has ended. All attempts from now on share one minute, and wait for the store within it."""
        self._deadline, self._not_before = time.monotonic() + FINAL_SECONDS, -math.inf
        self.failure = None

    def attempt(self, call: Callable[[], object]) -> bool:
        """Whether `call` succeeded. If not, the caller has to attempt it again later."""
        while time.monotonic() >= self._not_before:
            try:
                call()
                return True
            except STORE_ERRORS as error:
                failure = Failure(reason_of(error), refuses(error))
            if failure.refused:
                if failure != self.failure:
                    _LOG.warning("MLflow refuses to record this: %s", failure.reason)
                self.failure = failure
                return False
            _LOG.warning("MLflow is away: %s", failure.reason)
            if time.monotonic() < self._deadline:
                time.sleep(1)
                continue
            self.failure = failure
            final_minute_is_over = self._deadline > 0
            self._not_before = math.inf if final_minute_is_over else time.monotonic() + PAUSE_SECONDS
        return False


class UntrackedNote:
    """A file in the run folder which says that the tracking store may lack some of the run.

    It is there from before the run is played until everything is delivered: whoever finds it, after a driver was killed
    or the store was away, can deliver the rest.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._file = folder, folder.untracked

    def __bool__(self) -> bool:
        return self._file.is_file()

    @property
    def tags(self) -> dict[str, str]:
        """The tags that the run has in MLflow, which follow from more than its settings."""
        return dict(self._content().get("tags", {}))

    @property
    def reason(self) -> str:
        """Why the last attempt to deliver the rest failed; empty if there was none."""
        return str(self._content().get("reason", ""))

    def _content(self) -> dict[str, Any]:
        with suppress(FileNotFoundError, ValueError):  # earlier versions wrote the reason alone
            return dict(json.loads(self._file.read_bytes()))
        return {}

    def write(self, tags: Mapping[str, str], reason: str = "") -> None:
        """Writes the note."""
        write_atomic(self._file, json.dumps({"tags": dict(tags), "reason": reason}, indent=1).encode())
        self._folder.upload(self._file)

    def clear(self) -> None:
        """Deletes the note if there is one."""
        if self:
            self._folder.delete(self._file)


def print_undelivered(console: Console, settings: CommonSettings, failure: Failure, name: str) -> None:
    """Prints that the store is away or refuses, and the command that delivers the rest."""
    store, sync = masked(settings.tracking_uri), f"ganfleet sync {name}{settings.storage.command_suffix}"
    if failure.refused:
        say(console, f"tracking     {store} refuses to record the rest: {failure.reason}; once that is mended: {sync}")
    else:
        say(console, f"tracking     {store} is away and lacks the last of it; to bring it: {sync}")


def print_delivered(console: Console, settings: CommonSettings, name: str) -> None:
    """Prints that the tracking store has all of the run now."""
    say(console, f"tracking     {masked(settings.tracking_uri)} has all of {name} now: what it lacked is brought")
