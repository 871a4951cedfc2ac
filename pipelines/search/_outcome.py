"""The outcome of each trial of a search, and which is the best."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gan_core.measures import Objective
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
    value: float | None
    """Of the objective, at the last evaluation."""
    images_per_second: float | None
    checkpoint: str | None
    signs: str = ""
    """Names of the warning signs, separated by commas."""
    reason: str = ""
    """Why it was stopped or failed: `early` (by the scheduler), `budget`, or an error."""
    images_seen: int = 0
    fid: float | None = None
    """At the last evaluation, whatever the objective is."""

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


def short_names(families: Iterable[str]) -> dict[str, str]:
    """What tables and pictures call each family: `MyGan` of `my_pkg.gans:MyGan`, with as many of its modules as tell it
    from the others (`gans.MyGan`). Files and MLflow have the whole name."""
    parts = {name: re.split(r":|\.(?!\d)", name) for name in families}  # a dot before a digit is a number's

    def ending(name: str, count: int) -> str:
        return ".".join(parts[name][-count:])

    def shortest(name: str) -> str:
        others = parts.keys() - {name}
        counts = range(1, len(parts[name]) + 1)
        return next(
            (ending(name, count) for count in counts if all(ending(name, count) != ending(o, count) for o in others)),
            name,
        )

    return {name: shortest(name) for name in parts}


def with_names(outcomes: Iterable[Outcome], names: Mapping[str, str]) -> list[Outcome]:
    """The outcomes with what tables and pictures call their families."""
    return [
        replace(one, settings={**one.settings, "name": names.get(one.settings["name"], one.settings["name"])})
        for one in outcomes
    ]


def short(value: object) -> str:
    """A setting's value with three significant digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def outcome_of(record: Record, last_step: int, folder: RunFolder, objective: Objective) -> Outcome:
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
        value=result.get(objective.name),
        images_per_second=result.get("images_per_second"),
        checkpoint=str(folder.trial(record.trial).checkpoint(step)) if step else None,
        signs=result.get("signs", ""),
        reason=record.reason,
        images_seen=record.images_seen,
        fid=result.get("fid"),
    )


def ranked(outcomes: Sequence[Outcome], objective: Objective) -> list[Outcome]:
    """Best value first, then failed trials that have a value, then trials without one."""

    def rank(one: Outcome) -> tuple[object, ...]:
        return one.value is None, one.state == "failed", objective.loss(one.value or 0.0), one.trial

    return sorted(outcomes, key=rank)


def best_of(outcomes: Sequence[Outcome], objective: Objective) -> Outcome | None:
    """The trial of the best value that did not fail."""
    sound = [one for one in outcomes if one.value is not None and one.state != "failed" and one.checkpoint]
    return next(iter(ranked(sound, objective)), None)
