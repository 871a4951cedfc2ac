"""Which settings are confirmed with which seeds, and their results: mean, standard deviation, winner."""

from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gan_core.measures import Objective
from pipelines.console import mean_and_sd
from pipelines.runs import RunFolder
from pipelines.search._outcome import ENDED, Outcome, ranked
from pipelines.settings import SearchExperiment


@dataclass(frozen=True)
class SeedRun:
    """One trial's settings and one seed, to be played."""

    trial: Outcome
    """The trial of the search that has the settings."""
    seed: int

    @property
    def id(self) -> str:
        """`TRIAL-SEED`: the same in every process, so that no run is played or tracked twice."""
        return f"{self.trial.trial}-{self.seed}"

    @property
    def waiting(self) -> Outcome:
        """How it is shown before it begins."""
        return Outcome(self.id, "waiting", self.trial.settings, 0, self.trial.last_step, None, None, None)


@dataclass(frozen=True)
class SeedResult:
    """The result of one confirmation run."""

    id: str
    seed: int
    state: str
    step: int
    value: float | None
    """Of the objective at the last round; None if the run did not reach it."""
    best_value: float | None
    """The best of the run."""
    checkpoint: str | None
    fid: float | None = None
    """At the last round, whatever the objective is."""

    @property
    def ended(self) -> bool:
        """Whether it is completed, stopped or failed."""
        return self.state in ENDED


@dataclass(frozen=True)
class ConfirmedTrial:
    """A trial of the search, and the runs of its settings with fresh seeds."""

    trial: Outcome
    runs: tuple[SeedResult, ...]
    objective: Objective

    @property
    def all_ended(self) -> bool:
        """Whether the run of every seed has ended."""
        return all(run.ended for run in self.runs)

    @property
    def lost(self) -> list[int]:
        """The seeds whose run ended before the last round, because it diverged or failed."""
        return [run.seed for run in self.runs if run.value is None and run.ended]

    @property
    def values(self) -> list[float]:
        """The final values of the seeds that have one."""
        return [run.value for run in self.runs if run.value is not None]

    @property
    def family(self) -> str:
        """The name of its family."""
        return str(self.trial.settings["name"])

    @property
    def mean(self) -> float | None:
        """The mean of the final values."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """The sample standard deviation (n - 1) of the final values; None if there are fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def lowest(self) -> float | None:
        """The lowest final value."""
        return min(self.values, default=None)

    @property
    def highest(self) -> float | None:
        """The highest final value."""
        return max(self.values, default=None)

    @property
    def best_mean(self) -> float | None:
        """The mean of each run's best value, over the seeds that have a final value."""
        found = [run.best_value for run in self.runs if run.value is not None and run.best_value is not None]
        return statistics.fmean(found) if found else None

    @property
    def best_run(self) -> SeedResult:
        """The run with the best final value: its checkpoint, samples and model are the winner's. At least one run must
        have a final value."""
        ended = ((self.objective.loss(run.value), run.seed, run) for run in self.runs if run.value is not None)
        return min(ended, key=lambda one: one[:2])[2]

    @property
    def summary(self) -> str:
        """`FID 31.2 ± 2.4 over 3 seeds`."""
        lost = f" ({len(self.lost)} of {len(self.runs)} did not reach the end)" if self.lost else ""
        seeds = f"{len(self.values)} seed{'' if len(self.values) == 1 else 's'}"
        return f"{self.objective.label} {mean_and_sd(self.mean, self.sd)} over {seeds}{lost}"


def fresh_seeds(seed: int, count: int) -> list[int]:
    """`count` seeds that are derived from `seed` and differ from it. A longer list begins with the shorter one."""
    draws = random.Random(f"confirm {seed}")
    found: list[int] = []
    while len(found) < count:
        drawn = draws.randrange(1_000_000)
        if drawn != seed and drawn not in found:
            found.append(drawn)
    return found


def seed_runs(
    experiment: SearchExperiment, outcomes: Sequence[Outcome], begun: Mapping[str, dict[str, Any]]
) -> list[SeedRun]:
    """The runs of a confirmation: the best settings (of each family with `search.compare`), each with every fresh seed.

    `begun`: the settings of trials whose confirmation has begun. These trials stay in the confirmation, with these
    settings: a resumed population may have given them others. Equal settings are confirmed once.
    """
    if experiment.search.confirm == 0:
        return []
    groups = list(experiment.entries) if experiment.search.compare else [None]
    sound = [
        replace(one, settings=begun.get(one.trial, one.settings))
        for one in ranked(outcomes, experiment.objective)
        if one.value is not None and one.state != "failed"
    ]
    chosen = {json.dumps(one.settings, sort_keys=True): one for one in sound if one.trial in begun}
    for group in groups:
        of_group: dict[str, Outcome] = {}
        for one in sound:
            if group in (None, one.settings["name"]):
                of_group.setdefault(json.dumps(one.settings, sort_keys=True), one)
        for key in list(of_group)[: experiment.search.confirm]:
            chosen.setdefault(key, of_group[key])
    seeds = fresh_seeds(experiment.seed, experiment.search.confirm_seeds)
    return [SeedRun(one, seed) for one in ranked(list(chosen.values()), experiment.objective) for seed in seeds]


def gather_results(
    planned: Sequence[SeedRun], outcomes: Sequence[Outcome], folder: RunFolder, objective: Objective
) -> list[ConfirmedTrial]:
    """The results of the confirmation runs by trial, the winner first. `folder`: the confirmation's."""
    ended = {one.trial: one for one in outcomes}
    runs: dict[str, tuple[Outcome, list[SeedResult]]] = {}
    for run in planned:
        _, results = runs.setdefault(run.trial.trial, (run.trial, []))
        results.append(_result(run, ended.get(run.id), folder, objective))
    return sorted((ConfirmedTrial(trial, tuple(results), objective) for trial, results in runs.values()), key=_rank)


def winner_of(confirmed: Sequence[ConfirmedTrial]) -> ConfirmedTrial | None:
    """The settings with the best mean, of those whose runs have all ended."""
    return next((one for one in sorted(confirmed, key=_rank) if one.all_ended and one.mean is not None), None)


def _rank(one: ConfirmedTrial) -> tuple[bool, int, float, float, str]:
    """Best mean first, of equal means the one with the best run; but settings with fewer lost seeds always before
    those with more."""
    loss, best = one.objective.loss, one.objective.best(one.values)
    return (one.mean is None, len(one.lost), loss(one.mean or 0.0), loss(best or 0.0), one.trial.trial)


def _result(run: SeedRun, now: Outcome | None, folder: RunFolder, objective: Objective) -> SeedResult:
    if now is None:
        return SeedResult(run.id, run.seed, "waiting", 0, None, None, None)
    final, fid = (now.value, now.fid) if now.state == "completed" else (None, None)
    values = [row[objective.name] for row in folder.trial(run.id).rows() if objective.name in row]
    best = objective.best(filter(math.isfinite, values))
    return SeedResult(run.id, run.seed, now.state, now.step, final, best, now.checkpoint, fid)
