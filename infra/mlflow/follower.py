"""What a run's folder holds, brought to MLflow beside training: many rows in one call, and nothing lost if MLflow is
away meanwhile.

The folder is what waits: `metrics.jsonl`, `samples/` and `tags.json`, as `FolderTracker` writes them. Whatever MLflow
lacks of it is brought by whoever opens a follower of it next: the one that goes on from a checkpoint, or the driver
that ends the run.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from infra.mlflow.store import AWAY
from infra.mlflow.tracker import MlflowTracker, Row, now
from infra.system_metrics import SystemMetrics

EVERY = 2.0
"""Seconds between two calls while there are rows."""
PAUSE = 20.0
"""Seconds that a store which was away is left alone."""
KEPT = 360
"""Samples of the machine that wait for a store that is away; older ones are lost."""
TURN = 10.0
"""Seconds to wait for another process that brings the same folder's rows."""

_LOG = logging.getLogger(__name__)


class Follower:
    """A `Tracker` that follows a `FolderTracker` of `folder`, which must be told first.

    `connect` opens the run; it is called from another thread, once there is something to bring. After `flush` nothing
    is brought until the next row.
    """

    def __init__(self, folder: Path, connect: Callable[[], MlflowTracker]) -> None:
        self._folder, self._connect = folder, connect
        self._run: MlflowTracker | None = None
        self._times: dict[int, int] = {}
        self._offset, self._tags = 0, b""
        self._token = uuid.uuid4().hex.encode()
        self._system = SystemMetrics()
        self._samples: list[Row] = []
        self._busy, self._noted, self._ended = threading.Lock(), threading.Event(), threading.Event()
        self._resting = True
        self._not_before = 0.0
        self._thread: threading.Thread | None = None

    @property
    def last_step(self) -> int:
        """Of what is in MLflow, as far as it is known here."""
        return -1 if self._run is None else self._run.last_step

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Notes that the folder has a row of `step` now."""
        self._times.setdefault(step, now())
        self._note()

    def picture(self, step: int, png: bytes) -> None:
        """It is brought with its step's row."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Notes that the folder's tags are others now."""
        self._note()

    def flush(self) -> None:
        """Brings what there is, unless the store was away a moment ago. Raises nothing."""
        self._resting = True
        self._noted.clear()
        self._try()

    def close(self) -> None:
        """Brings what was noted since the last flush, and ends."""
        self._ended.set()
        if self._noted.is_set():
            self.flush()

    def bring(self) -> MlflowTracker:
        """Brings all that MLflow lacks of the folder. Returns the run.

        Raises one of `AWAY`: the store cannot be reached, or another process is at it.
        """
        with self._busy, self._turn() as others:
            if self._run is None:
                self._run = self._connect()
            elif others:
                self._run.refresh()
            self._bring_tags(self._run)
            self._bring_rows(self._run)
            return self._run

    def _note(self) -> None:
        self._resting = False
        self._noted.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, daemon=True, name="follower")
            self._thread.start()

    def _follow(self) -> None:
        while not self._ended.wait(EVERY):
            if self._resting:
                continue
            sample = self._system.sample()
            if sample:
                self._samples = [*self._samples[-KEPT:], Row(0, now(), sample)]
            if sample or self._noted.is_set():
                self._noted.clear()
                if not self._try():
                    self._noted.set()

    def _try(self) -> bool:
        if time.monotonic() < self._not_before:
            return False
        try:
            self.bring()
        except AWAY as error:
            self._not_before = time.monotonic() + PAUSE
            said = " ".join(str(error).split())[:200]
            _LOG.warning("MLflow is away; rows wait in %s: %s", self._folder / "metrics.jsonl", said)
            return False
        return True

    def _bring_tags(self, run: MlflowTracker) -> None:
        file = self._folder / "tags.json"
        content = file.read_bytes() if file.is_file() else b""
        if content != self._tags:
            run.tags(json.loads(content))
            self._tags = content

    def _bring_rows(self, run: MlflowTracker) -> None:
        (rows, end), samples = self._rows(), self._samples
        new = [row for row in rows if row.step > run.last_step]
        for row in new:  # first: a step whose metrics are recorded is complete
            picture = self._folder / "samples" / f"step-{row.step:06d}.png"
            if picture.is_file():
                run.picture(row.step, picture.read_bytes())
        run.rows(new, samples)
        self._samples, self._offset = self._samples[len(samples) :], end
        for row in rows:
            self._times.pop(row.step, None)

    def _rows(self) -> tuple[list[Row], int]:
        """The rows that were not yet brought from here, and where they end in the file.

        A row keeps its time when it is brought again: MLflow stores what is equal once.
        """
        file = self._folder / "metrics.jsonl"
        if not file.is_file():
            return [], self._offset
        with file.open("rb") as content:
            content.seek(self._offset)
            read = content.read()
        whole = read[: read.rfind(b"\n") + 1]
        rows = []
        for line in whole.splitlines():
            values = json.loads(line)
            step = values.pop("step")
            rows.append(Row(step, self._times.setdefault(step, now()), values))
        return rows, self._offset + len(whole)

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        """One process at a time brings a folder's rows. Gives whether another one had its turn since this one's."""
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / ".follower", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor)
            others = os.read(descriptor, len(self._token)) != self._token
            if others:
                os.pwrite(descriptor, self._token, 0)
            yield others
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Raises TimeoutError."""
    end = time.monotonic() + TURN
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise TimeoutError("another process still brings this run's rows") from None
            time.sleep(0.05)
