"""How a search's best settings did when they were played again: mean and spread over fresh seeds, and the winner."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.runs import RunFolder
from pipelines.search._outcome import ENDED, Outcome, ranked, short
from pipelines.settings import SearchExperiment


@dataclass(frozen=True)
class SeedRun:
    """One setting to be played with one seed."""

    trial: Outcome
    """The search's trial whose settings are repeated."""
    seed: int

    @property
    def id(self) -> str:
        """`TRIAL-SEED`: the same in every process, so that nothing is played or tracked twice."""
        return f"{self.trial.trial}-{self.seed}"


@dataclass(frozen=True)
class SeedResult:
    """How one repeat went."""

    id: str
    seed: int
    state: str
    step: int
    fid: float | None
    """At the last round; None if the run did not get there."""
    best_fid: float | None
    """The lowest of the run."""
    checkpoint: str | None

    @property
    def ended(self) -> bool:
        """Whether it will not go on."""
        return self.state in ENDED


@dataclass(frozen=True)
class ConfirmedTrial:
    """One setting over its seeds, with the trial of the search that found it."""

    trial: Outcome
    runs: tuple[SeedResult, ...]

    @property
    def whole(self) -> bool:
        """Whether every seed has come to an end."""
        return all(run.ended for run in self.runs)

    @property
    def lost(self) -> list[int]:
        """The seeds that did not reach the last round: they diverged or failed."""
        return [run.seed for run in self.runs if run.fid is None and run.ended]

    @property
    def fids(self) -> list[float]:
        """The final FIDs, of the seeds that have one."""
        return [run.fid for run in self.runs if run.fid is not None]

    @property
    def family(self) -> str:
        """Its name."""
        return str(self.trial.settings["name"])

    @property
    def mean(self) -> float | None:
        """Of the final FIDs."""
        return statistics.fmean(self.fids) if self.fids else None

    @property
    def sd(self) -> float | None:
        """The sample standard deviation of the final FIDs (n - 1); None of fewer than two."""
        return statistics.stdev(self.fids) if len(self.fids) > 1 else None

    @property
    def lowest(self) -> float | None:
        """Of the final FIDs."""
        return min(self.fids, default=None)

    @property
    def highest(self) -> float | None:
        """Of the final FIDs."""
        return max(self.fids, default=None)

    @property
    def best_mean(self) -> float | None:
        """The mean of each run's lowest FID, of the seeds that have a final one."""
        found = [run.best_fid for run in self.runs if run.fid is not None and run.best_fid is not None]
        return statistics.fmean(found) if found else None

    @property
    def typical(self) -> SeedResult:
        """The run whose final FID is closest to the mean: an honest specimen, not the luckiest. There must be one."""
        mean = self.mean
        assert mean is not None
        return min((run for run in self.runs if run.fid is not None), key=lambda run: (abs(run.fid - mean), run.seed))  # type: ignore[operator]

    @property
    def summary(self) -> str:
        """`FID 31.2 ± 2.4 over 3 seeds`."""
        spread = "" if self.sd is None else f" ± {short(self.sd)}"
        lost = f" ({len(self.lost)} of {len(self.runs)} did not reach the end)" if self.lost else ""
        seeds = f"{len(self.fids)} seed{'' if len(self.fids) == 1 else 's'}"
        return f"FID {'-' if self.mean is None else short(self.mean)}{spread} over {seeds}{lost}"


def fresh_seeds(seed: int, count: int) -> list[int]:
    """`count` seeds, none of them `seed`, that follow from it; a longer list begins with the shorter one."""
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
    """What confirmation plays: the best settings (of each family with `search.compare`), each with every fresh seed.

    `begun`: trials whose settings were confirmed before, or began to be, with these settings. They stay, so that all
    that is compared has the same seeds. (A population that went on since may have given the trial others.) Equal
    settings are confirmed once.
    """
    if experiment.search.confirm == 0:
        return []
    groups = [family.name for family in experiment.families] if experiment.search.compare else [None]
    sound = [
        replace(one, settings=begun.get(one.trial, one.settings))
        for one in ranked(outcomes)
        if one.fid is not None and one.state != "failed"
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
    return [SeedRun(one, seed) for one in ranked(list(chosen.values())) for seed in seeds]


def gather_results(repeats: Sequence[SeedRun], outcomes: Sequence[Outcome], folder: RunFolder) -> list[ConfirmedTrial]:
    """The repeats' outcomes by setting, the winner first. `folder`: the confirmation's, where the runs lie."""
    ended = {one.trial: one for one in outcomes}
    runs: dict[str, tuple[Outcome, list[SeedResult]]] = {}
    for repeat in repeats:
        now = ended.get(repeat.id)
        _, of_setting = runs.setdefault(repeat.trial.trial, (repeat.trial, []))
        of_setting.append(_repeated(repeat, now, folder))
    return sorted((ConfirmedTrial(trial, tuple(of_setting)) for trial, of_setting in runs.values()), key=_rank)


def winner_of(confirmed: Sequence[ConfirmedTrial]) -> ConfirmedTrial | None:
    """The best mean, of the settings all of whose seeds have ended."""
    sound = [one for one in sorted(confirmed, key=_rank) if one.whole and one.mean is not None]
    return sound[0] if sound else None


def _rank(one: ConfirmedTrial) -> tuple[bool, int, float, str]:
    """Best mean first; a setting that lost a seed after those that lost none, however good its other seeds."""
    return (one.mean is None, len(one.lost), one.mean or 0.0, one.trial.trial)


def _repeated(repeat: SeedRun, now: Outcome | None, folder: RunFolder) -> SeedResult:
    if now is None:
        return SeedResult(repeat.id, repeat.seed, "waiting", 0, None, None, None)
    reached = now.state == "completed"
    best = min((row["fid"] for row in folder.trial(repeat.id).rows() if "fid" in row), default=None)
    return SeedResult(repeat.id, repeat.seed, now.state, now.step, now.fid if reached else None, best, now.checkpoint)
