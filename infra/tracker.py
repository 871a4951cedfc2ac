"""Trackers record a run's metrics and pictures: the protocol, a tracker that writes a folder, and several as one."""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from infra.files import write_atomic


class Tracker(Protocol):
    """Records one run. Every call may be repeated: a resumed run replays the steps after its checkpoint.

    At a logged step the caller sends the picture first, if there is one, then the metrics: a step whose
    metrics are recorded is complete.
    """

    @property
    def last_step(self) -> int:
        """Highest step whose metrics are recorded, -1 if none."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Record the row of `step`, or drop it when `step <= last_step`. Values may be infinite or NaN."""

    def picture(self, step: int, png: bytes) -> None:
        """Record the sample grid of `step`, PNG bytes. A step has one picture, however often it is sent."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Set these tags; others stay."""

    def flush(self) -> None:
        """Returns once all is recorded, or the store is known to be unavailable. Raises nothing."""

    def close(self) -> None:
        """Flushes, and releases what the tracker holds."""


def written_row(step: int, values: Mapping[str, float]) -> str:
    """The line of a row in `metrics.jsonl`. JSON has no NaN and no infinity: they are the texts "nan", "inf" and
    "-inf"."""
    row = {name: value if isinstance(value, int) else float(value) for name, value in values.items()}
    return json.dumps({"step": step, **{name: json_number(value) for name, value in row.items()}}, allow_nan=False)


def json_number(value: float) -> float | str:
    """The number as JSON can hold it."""
    return value if math.isfinite(value) else str(value)


def read_row(line: str | bytes) -> dict[str, Any]:
    """The row of a line that `written_row` made, `step` included."""
    return {name: float(value) if isinstance(value, str) else value for name, value in json.loads(line).items()}


class FolderTracker:
    """A run in a folder: `metrics.jsonl`, `samples/step-000100.png` and `tags.json`; `times.jsonl` says when each row
    was logged.

    A line that a crash left unfinished at the end of a file is cut off on opening.

    Raises:
        ValueError: `metrics.jsonl` has a last line that is no row.
    """

    def __init__(self, folder: Path | str) -> None:
        folder = Path(folder)
        self._rows, self._times = folder / "metrics.jsonl", folder / "times.jsonl"
        self._samples = folder / "samples"
        self._tags = folder / "tags.json"
        self._samples.mkdir(parents=True, exist_ok=True)
        for file in (self._rows, self._times):
            file.touch()
            _cut_unfinished_line(file)
        self._last_step = _last_step(self._rows)

    @property
    def last_step(self) -> int:
        return self._last_step

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if step <= self._last_step:
            return
        assert "step" not in values
        line = written_row(step, values)
        # First the time, so that whoever reads the row finds it. The last time of a step counts.
        for file, content in ((self._times, json.dumps({"step": step, "time": now()})), (self._rows, line)):
            with file.open("ab") as opened:
                opened.write(content.encode() + b"\n")
        self._last_step = step

    def picture(self, step: int, png: bytes) -> None:
        file = self._samples / f"step-{step:06d}.png"
        if step > self._last_step or not file.exists():  # it belongs to the row of its step
            write_atomic(file, png)

    def tags(self, values: Mapping[str, str]) -> None:
        known = json.loads(self._tags.read_bytes()) if self._tags.exists() else {}
        write_atomic(self._tags, json.dumps({**known, **values}, indent=2, ensure_ascii=False).encode())

    def flush(self) -> None:
        """Does nothing: every call writes at once."""

    def close(self) -> None:
        """Does nothing: no file stays open."""


class Trackers:
    """Several trackers as one. Each ignores rows that it already has, so a tracker that lacks some receives them."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = tuple(trackers)

    @property
    def last_step(self) -> int:
        return min((tracker.last_step for tracker in self._trackers), default=-1)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        for tracker in self._trackers:
            tracker.metrics(step, values)

    def picture(self, step: int, png: bytes) -> None:
        for tracker in self._trackers:
            tracker.picture(step, png)

    def tags(self, values: Mapping[str, str]) -> None:
        for tracker in self._trackers:
            tracker.tags(values)

    def flush(self) -> None:
        for tracker in self._trackers:
            tracker.flush()

    def close(self) -> None:
        for tracker in self._trackers:
            tracker.close()


def now() -> int:
    """Milliseconds since 1970, as MLflow counts time."""
    return int(time.time() * 1000)


def _cut_unfinished_line(file: Path) -> None:
    data = file.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(file, whole)


def _last_step(rows: Path) -> int:
    lines = rows.read_bytes().splitlines()
    if not lines:
        return -1
    try:
        return int(json.loads(lines[-1])["step"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the last line of {rows} is not a row of metrics: {error}") from error
