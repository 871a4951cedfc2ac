"""The journal of a search: one JSON object a line, on disk before Ray Tune acts on it.

A search resumes from this file alone. Ray Tune's own state is several files, written every few seconds at different
moments: after a driver was killed they may be incomplete, or disagree about the trials.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gan_core.measures import FID, Objective
from gan_core.settings import SettingsError
from infra.locks import lock_at_once
from infra.stores.protocol import StoreError
from infra.tracker import now

if TYPE_CHECKING:
    from pipelines.runs import JournalSegments, RunFolder

EARLY = "early"
"""Why a trial was stopped by its scheduler."""

BUDGET = "budget"
"""Why a trial was stopped that resumes if the search gets a larger budget."""

CLOCK_SECONDS = 60.0
"""The clock is written this often: at most so much time is lost when a driver is killed."""


@dataclass(frozen=True)
class Record:
    """The state of one trial."""

    trial: str
    config: dict[str, Any]
    """`settings`, and `seed` if it differs from the search's."""
    state: str = "waiting"
    """waiting, completed, stopped or failed."""
    reason: str = ""
    """Why it was stopped or failed."""
    lost: bool = False
    """Whether it failed for a reason other than its settings: then it resumes with the search."""
    result: Mapping[str, Any] | None = None
    """Its last evaluation."""
    pointer: Mapping[str, Any] | None = None
    """Where its weights are: `trial` (its own name, or that of the trial it exploited), `step`, and the `signs` until
    then."""
    closed: bool = False
    """Whether its run in MLflow is closed."""

    @property
    def ended(self) -> bool:
        """Whether it is completed, stopped or failed."""
        return self.state != "waiting"

    @property
    def images_seen(self) -> int:
        """Real images until the last evaluation."""
        return int(self.result["images_seen"]) if self.result else 0


@dataclass(frozen=True)
class CurvePoint:
    """The best trial so far, when a number of trials had ended. It follows from the journal alone, so that whoever
    sends it to MLflow sends the same."""

    ended: int
    time: int
    """In milliseconds since 1970."""
    value: float
    """Of the objective."""
    trial: str
    step: int
    images: int
    """Real images that all trials had seen."""


class Journal:
    """A search's journal. One process at a time has it open; the lock ends with the process."""

    def __init__(self, path: Path, segments: JournalSegments | None = None, objective: Objective = FID) -> None:
        """Reads the file. Raises SettingsError if another process has it open.

        `segments`: the journal's copy in S3, from which the file is written anew. `objective`: what the curve is of.
        """
        self._file = path.open("a+b")
        if not lock_at_once(self._file.fileno()):
            self._file.close()
            name = path.parent.name
            raise SettingsError(f"the search '{name}' is running", nearest="wait for it, or another name")
        self.path = path
        self._segments, self._objective = segments, objective
        self._error: StoreError | OSError | None = None
        self.records: dict[str, Record] = {}
        self.curve: list[CurvePoint] = []
        """A point for each number of ended trials, from the first trial with a value on."""
        self.images = 0
        """Real images that all trials have seen."""
        self.past = self._read()
        """The lines that earlier drivers wrote."""
        self._before = self.past[-1]["seconds"] if self.past else 0.0
        self._began: float | None = time.monotonic()
        self._written = time.monotonic()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        if self._error is None:
            self._append({"event": "clock"})
        self._file.close()

    @property
    def seconds(self) -> float:
        """How long the search has run, under all its drivers."""
        return self._before + (0.0 if self._began is None else time.monotonic() - self._began)

    def stop_clock(self) -> None:
        """The confirmation, which follows, is not counted."""
        self._before, self._began = self.seconds, None

    def begin(self, trial: str, config: Mapping[str, Any]) -> Record:
        """The sampler has suggested a trial."""
        self._append({"event": "trial", "trial": trial, "config": config})
        return self.records[trial]

    def result(self, trial: str, result: Mapping[str, Any]) -> None:
        """An evaluation after which the trial continues."""
        self._append({"event": "result", "trial": trial, "result": result})

    def exploit(self, trial: str, config: Mapping[str, Any], pointer: Mapping[str, Any]) -> None:
        """The trial takes the weights of another and continues with other settings."""
        self._append({"event": "exploit", "trial": trial, "config": config, "pointer": pointer})

    def diverged(self, trial: str, reason: str) -> None:
        """The trial has diverged and takes the weights of another."""
        self._append({"event": "diverged", "trial": trial, "reason": reason})

    def end(
        self, trial: str, state: str, reason: str = "", result: Mapping[str, Any] | None = None, lost: bool = False
    ) -> None:
        """The trial has ended. `result`: its last evaluation, if that is not in the journal yet."""
        ended = {"state": state, "reason": reason, "lost": lost, "result": result, "time": now()}
        self._append({"event": "end", "trial": trial, **ended})

    def reopen(self, trial: str) -> None:
        """An ended trial resumes."""
        self._append({"event": "reopen", "trial": trial})

    def closed(self, trial: str) -> None:
        """The trial's run in MLflow is closed."""
        self._append({"event": "closed", "trial": trial})

    def tick(self) -> None:
        """Writes the clock once a minute. Raises what `check` raises."""
        self.check()
        if time.monotonic() - self._written > CLOCK_SECONDS:
            self._append({"event": "clock"})

    def check(self) -> None:
        """Raises StoreError or OSError if a line or a checkpoint could not be written: all later ones would be lost."""
        if self._error is not None:
            raise self._error

    def give_up(self, error: StoreError | OSError) -> NoReturn:
        """Raises the error, now and in each `check`."""
        self._error = error
        raise error

    def _append(self, event: dict[str, Any]) -> None:
        text = json.dumps({**event, "seconds": round(self.seconds, 2)}, default=_plain, allow_nan=False)
        line = text.encode() + b"\n"
        self.check()
        try:  # Ray Tune takes an error here for a failure of the trial, so `check` raises it again
            if self._segments is not None:
                self._segments.add(line)
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except (StoreError, OSError) as error:
            self.give_up(error)
        self._written = time.monotonic()
        self._apply(json.loads(text))

    def _read(self) -> list[dict[str, Any]]:
        """All whole lines. A last line that a crash cut off is deleted."""
        if self._segments is not None:
            kept = self._segments.claim()
            self._file.truncate(0)
            self._file.write(kept)
            self._file.flush()
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._file.truncate(len(whole))
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise SettingsError(f"{self.path} is damaged: {error}", nearest="a new name") from None
        for line in lines:
            self._apply(line)
        return lines

    def _apply(self, line: dict[str, Any]) -> None:
        if line["event"] == "clock":
            return
        trial = line["trial"]
        before = self.records.get(trial, Record(trial, {}))
        after = _after(before, line)
        self.images += after.images_seen - before.images_seen
        self.records[trial] = after
        if line["event"] == "end":
            self._add_point(line.get("time") or now())

    def _add_point(self, time: int) -> None:
        ended = [record for record in self.records.values() if record.ended]
        if self.curve and len(ended) <= self.curve[-1].ended:  # a trial that was reopened ends again
            return
        results = {one.trial: one.result for one in ended if one.state != "failed" and one.result}
        name = self._objective.name
        sound = [
            (self._objective.loss(result[name]), trial)
            for trial, result in results.items()
            if name in result and result.get("step")
        ]
        if sound:
            _, trial = min(sound)
            result = results[trial]
            self.curve.append(
                CurvePoint(len(ended), time, float(result[name]), trial, int(result["step"]), self.images)
            )


def read_records(folder: RunFolder) -> dict[str, Record]:
    """The trials of a search, or the runs of a confirmation, by its journal. Neither locks nor changes it."""
    segments = folder.segments()
    if segments is not None:
        content = segments.read()
    else:
        content = folder.journal.read_bytes() if folder.journal.is_file() else b""
    records: dict[str, Record] = {}
    for line in map(json.loads, content[: content.rfind(b"\n") + 1].splitlines()):
        if line["event"] != "clock":
            records[line["trial"]] = _after(records.get(line["trial"], Record(line["trial"], {})), line)
    return records


def _after(record: Record, line: Mapping[str, Any]) -> Record:
    """A trial's record after a line of the journal."""
    result = line.get("result")
    if result is not None:
        pointer = {"trial": record.trial, "step": result["step"], "signs": result.get("signs", "")}
        record = replace(record, result=result, pointer=pointer)
    if line["event"] == "trial":
        return replace(record, config=line["config"])
    if line["event"] == "exploit":
        return replace(record, config=line["config"], pointer=line["pointer"])
    if line["event"] == "end":
        return replace(record, state=line["state"], reason=line["reason"], lost=line["lost"])
    if line["event"] == "reopen":
        return replace(record, state="waiting", reason="", lost=False, closed=False)
    return replace(record, closed=True) if line["event"] == "closed" else record


_TUNE_FIELDS = ("config", "date", "done", "experiment_tag", "hostname", "node_ip", "pid", "should_checkpoint")


def scalars(result: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Ray Tune result that the journal keeps: finite numbers and text."""
    return {
        name: value
        for name, value in result.items()
        if name.split("/")[0] not in _TUNE_FIELDS
        and not name.startswith("time")
        and (isinstance(value, (int, str)) or (isinstance(value, float) and math.isfinite(value)))
    }


def _plain(value: Any) -> Any:
    """A NumPy scalar, which some samplers suggest, as a Python value."""
    with suppress(AttributeError):
        return value.item()
    raise TypeError(f"{type(value).__name__} in a search's journal")
