"""Which driver owns a run in S3, and how long a driver waits for a store that does not answer.

S3 has no locks. So the last driver that claimed a run owns it, and an earlier one can no longer save or delete.
"""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from infra.stores.protocol import StoreError, UnreachableError
from pipelines.interrupts import stop_requested
from pipelines.runs._mirror import Mirror

RETRY_SECONDS, RETRY_PAUSE = 300.0, 5.0
"""How long saving is retried while the store does not answer, and the pause between two attempts."""
DRIVER = "driver"
"""The file in the store with the token of the driver that claimed the run last."""

_LOG = logging.getLogger(__name__)


class TakenOverError(StoreError):
    """Another driver has claimed the run or search."""


@dataclass
class Ownership:
    """Whether this driver owns a run or search in a store that has no locks: the last driver to claim it does.

    A run's folder and all folders inside share one, and it is pickled with them to the workers.
    """

    mirror: Mirror
    """Of the run's or search's own folder."""
    token: bytes | None = None
    """What this driver wrote when it claimed the run; None before that, and then `check` does nothing."""

    def claim(self) -> None:
        """Makes this driver the owner. Raises TakenOverError if it was the owner before and is no longer."""
        if self.token is not None:
            self.check()
            return
        token = uuid.uuid4().hex.encode()
        self.mirror.write(DRIVER, token)
        self.token = token

    def check(self) -> None:
        """Raises TakenOverError if another driver has claimed the run since. It costs one request, before each line of
        a journal and before each checkpoint."""
        if self.token is None:
            return
        found = self.mirror.about(DRIVER)
        if found is None or found.sha256 != hashlib.sha256(self.token).hexdigest():
            raise TakenOverError(f"{self.mirror.url}: another driver has taken it over")


def retry_while_unreachable(save: Callable[[], None]) -> None:
    """Calls `save`, which may run more than once, until the store answers. Raises UnreachableError after
    RETRY_SECONDS, or once this process was asked to end."""
    end = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            return save()
        except UnreachableError as error:
            if stop_requested.is_set() or time.monotonic() >= end:
                raise
            _LOG.warning("%s; asking again", error)
            stop_requested.wait(RETRY_PAUSE)
