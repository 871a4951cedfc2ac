"""Sends a run's folder to MLflow from another thread, many rows in one call. Nothing is lost while MLflow is
unavailable.

The folder is the queue: `metrics.jsonl`, `times.jsonl`, `samples/` and `tags.json`, as `FolderTracker` writes them.
What MLflow still lacks is sent by the next follower of the folder: that of a run that resumes, or that of the driver
that ends the run. It may send what MLflow has already, if an answer was lost: the rows and pictures are then equal to
those that were sent first, with their times, and MLflow keeps one of each.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.locks import lock_within
from infra.mlflow.errors import STORE_ERRORS, reason_of, refuses
from infra.mlflow.tracker import MlflowTracker, Row
from infra.system_metrics import SystemMetrics
from infra.tracker import now, read_row

SEND_SECONDS = 2.0
"""Between two calls while there are new rows."""
RETRY_SECONDS = 20.0
"""After MLflow was unavailable, before it is asked again."""
MOST_SAMPLES = 360
"""Of this machine, kept while MLflow is unavailable; older ones are lost."""
LOCK_SECONDS = 10.0
"""For which another process may send the same folder's rows before this one gives up."""

_LOG = logging.getLogger(__name__)


class Follower:
    """A `Tracker` of a run in MLflow that reads the run's `folder`. The `FolderTracker` must be called first.

    `connect` opens the run. Another thread calls it, once there is something to send. After `flush` nothing is sent
    until the next row.
    """

    def __init__(self, folder: Path, connect: Callable[[], MlflowTracker]) -> None:
        self._folder, self._connect = folder, connect
        self._run: MlflowTracker | None = None
        self._times: dict[int, int] = {}
        self._offset, self._times_offset, self._tags = 0, 0, b""
        self._token = uuid.uuid4().hex.encode()
        self._system = SystemMetrics()
        self._samples: list[Row] = []
        self._busy, self._changed, self._ended = threading.Lock(), threading.Event(), threading.Event()
        self._resting = True
        self._not_before = 0.0
        self._thread: threading.Thread | None = None

    @property
    def last_step(self) -> int:
        """The last step in MLflow that this follower knows of, -1 if none."""
        return -1 if self._run is None else self._run.last_step

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Notes that the folder has the row of `step`."""
        self._note()

    def picture(self, step: int, png: bytes) -> None:
        """Does nothing: a picture is sent with the row of its step."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Notes that the folder's tags have changed."""
        self._note()

    def flush(self) -> None:
        """Sends what the folder has, unless MLflow was unavailable a moment ago. Raises nothing."""
        self._resting = True
        self._changed.clear()
        self._try()

    def close(self) -> None:
        """Sends what was noted since the last flush, and ends the thread."""
        self._ended.set()
        if self._changed.is_set():
            self.flush()

    def catch_up(self) -> MlflowTracker:
        """Sends all of the folder that MLflow lacks. Returns the run.

        Raises one of `STORE_ERRORS`: MLflow cannot be reached or refuses it, or another process still sends the same
        folder.
        """
        with self._busy, self._locked() as others:
            if self._run is None:
                self._run = self._connect()
            elif others:
                self._run.refresh()
            self._send_tags(self._run)
            self._send_rows(self._run)
            return self._run

    def _note(self) -> None:
        self._resting = False
        self._changed.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, daemon=True, name="follower")
            self._thread.start()

    def _follow(self) -> None:
        while not self._ended.wait(SEND_SECONDS):
            if self._resting:
                continue
            sample = self._system.sample()
            if sample:
                self._samples = [*self._samples[-MOST_SAMPLES:], Row(0, now(), sample)]
            if sample or self._changed.is_set():
                self._changed.clear()
                if not self._try():
                    self._changed.set()

    def _try(self) -> bool:
        if time.monotonic() < self._not_before:
            return False
        try:
            self.catch_up()
        except STORE_ERRORS as error:
            refused, rows = refuses(error), self._folder / "metrics.jsonl"
            self._not_before = math.inf if refused else time.monotonic() + RETRY_SECONDS
            said = "MLflow refuses to record this; rows stay" if refused else "MLflow is away; rows wait"
            _LOG.warning("%s in %s: %s", said, rows, reason_of(error))
            return False
        return True

    def _send_tags(self, run: MlflowTracker) -> None:
        file = self._folder / "tags.json"
        content = file.read_bytes() if file.is_file() else b""
        if content != self._tags:
            run.tags(json.loads(content))
            self._tags = content

    def _send_rows(self, run: MlflowTracker) -> None:
        (rows, end), samples = self._rows(), self._samples
        new = [row for row in rows if row.step > run.last_step]
        untrained = self._folder / "samples" / "step-000000.png"
        if run.last_step < 0 and untrained.is_file():  # there is no row of step 0
            run.picture(0, untrained.read_bytes(), run.began)
        for row in new:  # before the rows: a step whose metrics are recorded is complete
            picture = self._folder / "samples" / f"step-{row.step:06d}.png"
            if picture.is_file():
                run.picture(row.step, picture.read_bytes(), row.time)
        run.rows(new, samples)
        self._samples, self._offset = self._samples[len(samples) :], end
        for row in rows:
            self._times.pop(row.step, None)

    def _rows(self) -> tuple[list[Row], int]:
        """The rows of the file that this follower has not sent, and the offset in bytes where they end."""
        lines, end = _whole_lines(self._folder / "metrics.jsonl", self._offset)
        times, self._times_offset = _whole_lines(self._folder / "times.jsonl", self._times_offset)
        self._times |= {line["step"]: line["time"] for line in times}
        rows = []
        for values in lines:
            step = values.pop("step")
            rows.append(Row(step, self._times.setdefault(step, now()), values))
        return rows, end

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """One process at a time sends a folder's rows. Gives whether another one has sent some since this one did.

        Raises TimeoutError.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / ".follower", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not lock_within(descriptor, LOCK_SECONDS):
                raise TimeoutError("another process still brings this run's rows")
            others = os.read(descriptor, len(self._token)) != self._token
            if others:
                os.pwrite(descriptor, self._token, 0)
            yield others
        finally:
            os.close(descriptor)


def _whole_lines(file: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """The rows from an offset in bytes on, and the offset where they end; none if there is no such file."""
    if not file.is_file():
        return [], offset
    with file.open("rb") as content:
        content.seek(offset)
        read = content.read()
    whole = read[: read.rfind(b"\n") + 1]
    return [read_row(line) for line in whole.splitlines()], offset + len(whole)
