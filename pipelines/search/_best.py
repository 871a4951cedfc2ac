"""The result of a search: its trials, its confirmed settings, and the best run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.runs import RunPaths
from pipelines.search._outcome import Outcome, best_of
from pipelines.search.confirmation.results import ConfirmedTrial, winner_of


@dataclass(frozen=True)
class BestRun:
    """The run that represents the best settings: a trial of the search, or the confirmed winner's run with the lowest
    FID. Its checkpoint and samples are what the search shows."""

    trial: str
    settings: dict[str, Any]
    run_fid: float
    """Of this one run."""
    step: int
    checkpoint: Path
    seed: int | None = None
    """None: the seed of the search."""
    confirmed: ConfirmedTrial | None = None

    @property
    def fid(self) -> float:
        """The FID of the settings, by which they won: the mean over the fresh seeds if they were confirmed."""
        mean = self.confirmed.mean if self.confirmed else None
        return self.run_fid if mean is None else mean

    @property
    def picture(self) -> Path:
        """The sample grid of its last evaluation."""
        return RunPaths(self.checkpoint.parent.parent).picture(self.step)

    @property
    def about(self) -> dict[str, Any]:
        """The content of `best.json`, without the path of the checkpoint."""
        about: dict[str, Any] = {"trial": self.trial, "fid": self.fid, "step": self.step}
        if self.confirmed is not None:
            seeds = [run.seed for run in self.confirmed.runs]
            about |= {"sd": self.confirmed.sd, "seeds": seeds, "seed": self.seed, "seed_fid": self.run_fid}
        return about

    @property
    def tags(self) -> dict[str, str]:
        """MLflow tags of the search's run that name it."""
        tags = {"ganfleet.best.trial": self.trial, "ganfleet.best.fid": f"{self.fid:.4f}"}
        if self.confirmed is not None:
            if self.confirmed.sd is not None:
                tags["ganfleet.best.sd"] = f"{self.confirmed.sd:.4f}"
            tags["ganfleet.best.seeds"] = ",".join(str(run.seed) for run in self.confirmed.runs)
            tags |= {"ganfleet.best.seed": str(self.seed), "ganfleet.best.seed_fid": f"{self.run_fid:.4f}"}
        return tags


@dataclass(frozen=True)
class SearchResult:
    """The outcome of each trial, and the confirmed settings, the winner first."""

    outcomes: Sequence[Outcome]
    confirmed: Sequence[ConfirmedTrial]
    complete: bool = True
    """Whether all trials and confirmation runs have ended."""

    @property
    def best(self) -> BestRun | None:
        """The confirmed winner. Without one, or until all confirmation runs have ended, the trial of the lowest FID."""
        winner = winner_of(self.confirmed) if all(one.all_ended for one in self.confirmed) else None
        trial = winner.trial if winner else best_of(self.outcomes)
        if trial is None:
            return None
        run = winner.best_run if winner else trial
        assert run.fid is not None
        assert run.checkpoint is not None
        seed = winner.best_run.seed if winner else None
        return BestRun(trial.trial, trial.settings, run.fid, run.step, Path(run.checkpoint), seed, winner)
