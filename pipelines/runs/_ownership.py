"""Which driver plays a run that is kept in S3, and how long it waits for a store that is away.

S3 cannot lock. So the last driver that took a run owns it, and an earlier one keeps and deletes nothing more.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from infra.stores.protocol import StoreError, UnreachableError
from pipelines.runs._mirror import Mirror

PATIENCE, PAUSE = 300.0, 5.0
"""Seconds for which a store that is away is asked again to keep what was played, and between two times."""
ending = threading.Event()
"""Set once this process was told to end: from then on it waits for no store."""
DRIVER = "driver"
"""The file that says which driver goes on with a run or search: the last one that took it."""

_LOG = logging.getLogger(__name__)


class TakenOverError(StoreError):
    """Another driver goes on with the run or search."""


@dataclass
class Turn:
    """Which driver goes on with a run or search: the last one that took it, for a store cannot lock.

    The run's folder and all folders inside have one in common, and it goes along to whoever plays there.
    """

    mirror: Mirror
    """Of the run's or search's own folder."""
    token: bytes | None = None
    """What this driver signed with; None until it does, and until then nobody asks."""

    def take(self) -> None:
        """From now on it is this driver's. Raises TakenOverError if it was before, and is another's now."""
        if self.token is not None:
            self.check()
            return
        token = uuid.uuid4().hex.encode()
        self.mirror.write(DRIVER, token)
        self.token = token

    def check(self) -> None:
        """Raises TakenOverError if another took it since. One request: there is a check before each line of a journal,
        and before each checkpoint."""
        if self.token is None:
            return
        found = self.mirror.about(DRIVER)
        if found is None or found.sha256 != hashlib.sha256(self.token).hexdigest():
            raise TakenOverError(f"{self.mirror.url}: another driver has taken it over")


def patiently(keep: Callable[[], None]) -> None:
    """Does what may be done again, and does it again while the store is away. Raises UnreachableError in the end."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return keep()
        except UnreachableError as error:
            if ending.is_set() or time.monotonic() >= end:
                raise
            _LOG.warning("%s; asking again", error)
            ending.wait(PAUSE)
