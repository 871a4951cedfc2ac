"""The outcome of each trial of a search, and which is the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.runs import RunFolder
from pipelines.search._journal import Record

ENDED = ("completed", "stopped", "failed")
"""States of trials that have ended."""


@dataclass(frozen=True)
class Outcome:
    """The state and results of one trial."""

    trial: str
    state: str
    """completed, stopped, failed, interrupted, running or waiting."""
    settings: dict[str, Any]
    """Family name and the sampled fields."""
    step: int
    last_step: int
    fid: float | None
    """At the last evaluation."""
    images_per_second: float | None
    checkpoint: str | None
    signs: str = ""
    """Names of the warning signs, separated by commas."""
    reason: str = ""
    """Why it was stopped or failed: `early` (by the scheduler), `budget`, or an error."""
    images_seen: int = 0

    @property
    def ended(self) -> bool:
        """Whether it is completed, stopped or failed."""
        return self.state in ENDED

    @property
    def ending(self) -> str:
        """The state with its reason."""
        return f"{self.state}: {self.reason}" if self.reason else self.state

    @property
    def described(self) -> str:
        """The settings in a line: `wgan_gp lr=0.0003 n_critic=3`."""
        fields = [f"{name}={short(value)}" for name, value in self.settings.items() if name != "name"]
        return " ".join([self.settings["name"], *fields])


def short(value: object) -> str:
    """A setting's value with three significant digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def outcome_of(record: Record, last_step: int, folder: RunFolder) -> Outcome:
    """The outcome of a trial from its record. `last_step`: the end of its budget, used until it has a result; `folder`:
    the search's, which has a checkpoint of each evaluation."""
    result = record.result or {}
    step = int(result.get("step", 0))
    return Outcome(
        trial=record.trial,
        state=record.state,
        settings=record.config["settings"],
        step=step,
        last_step=int(result.get("last_step", last_step)),
        fid=result.get("fid"),
        images_per_second=result.get("images_per_second"),
        checkpoint=str(folder.trial(record.trial).checkpoint(step)) if step else None,
        signs=result.get("signs", ""),
        reason=record.reason,
        images_seen=record.images_seen,
    )


def ranked(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Best FID first, then failed trials that have a FID, then trials without one."""
    return sorted(outcomes, key=lambda one: (one.fid is None, one.state == "failed", one.fid or 0.0, one.trial))


def best_of(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The trial of the lowest FID that did not fail."""
    sound = [one for one in ranked(outcomes) if one.fid is not None and one.state != "failed" and one.checkpoint]
    return sound[0] if sound else None
