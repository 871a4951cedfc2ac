"""What a search did, in order: one JSON object a line, on disk before Ray Tune acts on it.

A search goes on from this file alone. Ray Tune's own state is several files, written at different moments, every few
seconds: after the driver's death they are torn, or know of different trials.
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

from gan_core.settings import SettingsError
from infra.locks import lock_at_once
from infra.stores.protocol import StoreError

if TYPE_CHECKING:
    from pipelines.runs import Segments

EARLY = "early"
"""Why a trial was stopped by its scheduler."""

BUDGET = "budget"
"""Why a trial was stopped that goes on when the search is given more."""

CLOCK_SECONDS = 60.0
"""At most this much of the time spent is forgotten by a driver's death."""


@dataclass(frozen=True)
class Record:
    """How one trial stands."""

    trial: str
    config: dict[str, Any]
    """What the trial is given: `settings`, and `seed` if it is not the search's."""
    state: str = "waiting"
    """waiting, or how it ended: completed, stopped, failed."""
    reason: str = ""
    """Why it was stopped or failed."""
    lost: bool = False
    """Whether it failed for no fault of its settings: it goes on when the search does."""
    result: Mapping[str, Any] | None = None
    """Its last evaluation."""
    pointer: Mapping[str, Any] | None = None
    """Where its weights are: a trial (itself, or the one that it exploited), a step, the signs seen until then."""
    closed: bool = False
    """Whether its run in MLflow is closed."""

    @property
    def ended(self) -> bool:
        """Whether it will not go on."""
        return self.state != "waiting"

    @property
    def images_seen(self) -> int:
        """At the last evaluation."""
        return int(self.result["images_seen"]) if self.result else 0


class Journal:
    """A search's file, read and then appended to. One process at a time; its death lets go of it."""

    def __init__(self, path: Path, segments: Segments | None = None) -> None:
        """Raises SettingsError if another process has it open. `segments`: where it is kept beside this file, which is
        made anew from them then."""
        self._file = path.open("a+b")
        if not lock_at_once(self._file.fileno()):
            self._file.close()
            name = path.parent.name
            raise SettingsError(f"the search '{name}' is running; nearest: wait for it, or another name")
        self.path = path
        self._segments = segments
        self._error: StoreError | OSError | None = None
        self.records: dict[str, Record] = {}
        self.images = 0
        """That all trials have seen."""
        self.past = self._read()
        """The lines of earlier drivers."""
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
        """For which the search has run, under all its drivers."""
        return self._before + (0.0 if self._began is None else time.monotonic() - self._began)

    def stop_clock(self) -> None:
        """What is yet to come is not the search itself."""
        self._before, self._began = self.seconds, None

    def begin(self, trial: str, config: Mapping[str, Any]) -> Record:
        """A trial that was drawn."""
        self._append({"event": "trial", "trial": trial, "config": config})
        return self.records[trial]

    def result(self, trial: str, result: Mapping[str, Any]) -> None:
        """An evaluation, after which the trial goes on."""
        self._append({"event": "result", "trial": trial, "result": result})

    def exploit(self, trial: str, config: Mapping[str, Any], pointer: Mapping[str, Any]) -> None:
        """The trial takes another's weights and goes on with other settings."""
        self._append({"event": "exploit", "trial": trial, "config": config, "pointer": pointer})

    def end(
        self, trial: str, state: str, reason: str = "", result: Mapping[str, Any] | None = None, lost: bool = False
    ) -> None:
        """The trial will not go on; `result` if its last evaluation is new."""
        ended = {"state": state, "reason": reason, "lost": lost, "result": result}
        self._append({"event": "end", "trial": trial, **ended})

    def reopen(self, trial: str) -> None:
        """The trial goes on after all."""
        self._append({"event": "reopen", "trial": trial})

    def closed(self, trial: str) -> None:
        """Its run in MLflow is closed."""
        self._append({"event": "closed", "trial": trial})

    def tick(self) -> None:
        """Keeps the time spent, now and then. Raises what `check` does."""
        self.check()
        if time.monotonic() - self._written > CLOCK_SECONDS:
            self._append({"event": "clock"})

    def check(self) -> None:
        """Raises StoreError or OSError if a line could not be kept, or a trial: nothing may go on, for it would be
        forgotten."""
        if self._error is not None:
            raise self._error

    def give_up(self, error: StoreError | OSError) -> NoReturn:
        """Raises it, and lets `check` tell it again."""
        self._error = error
        raise error

    def _append(self, line: dict[str, Any]) -> None:
        text = json.dumps({**line, "seconds": round(self.seconds, 2)}, default=_plain, allow_nan=False)
        self._keep(text.encode() + b"\n")
        self._written = time.monotonic()
        self._apply(json.loads(text))

    def _keep(self, line: bytes) -> None:
        """Ray Tune takes an error for one of the trial that the line is about: `check` tells it again."""
        self.check()
        try:
            if self._segments is not None:
                self._segments.add(line)
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except (StoreError, OSError) as error:
            self.give_up(error)

    def _read(self) -> list[dict[str, Any]]:
        """All whole lines; what a crash left of the last is cut off."""
        if self._segments is not None:
            kept = self._segments.take()
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
            raise SettingsError(f"{self.path} is damaged: {error}; nearest: a new name") from None
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


def _after(record: Record, line: Mapping[str, Any]) -> Record:
    """A trial's record after what a line says."""
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


_TUNES_OWN = ("config", "date", "done", "experiment_tag", "hostname", "node_ip", "pid", "should_checkpoint")


def scalars(result: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Ray Tune result that the journal keeps: finite numbers and text."""
    return {
        name: value
        for name, value in result.items()
        if name.split("/")[0] not in _TUNES_OWN
        and "time" not in name
        and (isinstance(value, (int, str)) or (isinstance(value, float) and math.isfinite(value)))
    }


def _plain(value: Any) -> Any:
    """A numpy number or string, as some samplers draw them, as Python's own."""
    with suppress(AttributeError):
        return value.item()
    raise TypeError(f"{type(value).__name__} in a search's journal")
