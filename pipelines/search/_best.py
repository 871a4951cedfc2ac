"""The result of a search: its trials, its confirmed settings, and the best run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_core.measures import Objective
from pipelines.runs import RunPaths
from pipelines.search._outcome import Outcome, best_of
from pipelines.search.confirmation.results import ConfirmedTrial, winner_of


@dataclass(frozen=True)
class BestRun:
    """The run that represents the best settings: a trial of the search, or the confirmed winner's run with the best
    value. Its checkpoint and samples are what the search shows."""

    trial: str
    settings: dict[str, Any]
    objective: Objective
    run_value: float
    """Of the objective, of this one run."""
    run_fid: float | None
    step: int
    checkpoint: Path
    seed: int | None = None
    """None: the seed of the search."""
    confirmed: ConfirmedTrial | None = None

    @property
    def value(self) -> float:
        """The value of the settings, by which they won: the mean over the fresh seeds if they were confirmed."""
        mean = self.confirmed.mean if self.confirmed else None
        return self.run_value if mean is None else mean

    @property
    def picture(self) -> Path:
        """The sample grid of its last evaluation."""
        return RunPaths(self.checkpoint.parent.parent).picture(self.step)

    @property
    def about(self) -> dict[str, Any]:
        """The content of `best.json`, without the path of the checkpoint."""
        name = self.objective.name
        about: dict[str, Any] = {"trial": self.trial, name: self.value, "step": self.step}
        if self.confirmed is not None:
            seeds = [run.seed for run in self.confirmed.runs]
            about |= {"sd": self.confirmed.sd, "seeds": seeds, "seed": self.seed, f"seed_{name}": self.run_value}
        return about if self.objective.is_fid else {**about, "run_fid": self.run_fid}

    @property
    def tags(self) -> dict[str, str]:
        """MLflow tags of the search's run that name it."""
        best, name = "ganfleet.best.", self.objective.name
        tags = {f"{best}trial": self.trial, f"{best}{name}": self.objective.written(self.value)}
        if self.confirmed is not None:
            if self.confirmed.sd is not None:
                tags[f"{best}sd"] = self.objective.written(self.confirmed.sd)
            tags[f"{best}seeds"] = ",".join(str(run.seed) for run in self.confirmed.runs)
            tags |= {f"{best}seed": str(self.seed), f"{best}seed_{name}": self.objective.written(self.run_value)}
        return tags


@dataclass(frozen=True)
class SearchResult:
    """The outcome of each trial, and the confirmed settings, the winner first."""

    objective: Objective
    outcomes: Sequence[Outcome]
    confirmed: Sequence[ConfirmedTrial]
    complete: bool = True
    """Whether all trials and confirmation runs have ended."""

    @property
    def best(self) -> BestRun | None:
        """The confirmed winner. Without one, or until all confirmation runs have ended, the trial of the best value."""
        winner = winner_of(self.confirmed) if all(one.all_ended for one in self.confirmed) else None
        trial = winner.trial if winner else best_of(self.outcomes, self.objective)
        if trial is None:
            return None
        run = winner.best_run if winner else trial
        assert run.value is not None
        assert run.checkpoint is not None
        seed, checkpoint = winner.best_run.seed if winner else None, Path(run.checkpoint)
        return BestRun(
            trial.trial, trial.settings, self.objective, run.value, run.fid, run.step, checkpoint, seed, winner
        )
