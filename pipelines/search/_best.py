"""What a search found: its trials, its confirmed settings, and the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.runs import RunFolder
from pipelines.search._outcome import Outcome, best_of
from pipelines.search.confirmation.results import ConfirmedTrial, winner_of


@dataclass(frozen=True)
class BestRun:
    """The run that stands for the best settings: the search's own, or of the confirmed ones the typical."""

    trial: str
    settings: dict[str, Any]
    fid: float
    step: int
    checkpoint: Path
    seed: int | None = None
    """None: the search's."""
    confirmed: ConfirmedTrial | None = None

    @property
    def picture(self) -> Path:
        """Its last samples."""
        return RunFolder(self.checkpoint.parent.parent).picture(self.step)

    @property
    def about(self) -> dict[str, Any]:
        """What `best.json` says beside the checkpoint."""
        told: dict[str, Any] = {"trial": self.trial, "fid": self.fid, "step": self.step}
        if self.confirmed is not None:
            seeds = [run.seed for run in self.confirmed.runs]
            told |= {"mean": self.confirmed.mean, "sd": self.confirmed.sd, "seeds": seeds, "seed": self.seed}
        return told

    @property
    def tags(self) -> dict[str, str]:
        """What it is, as MLflow's tags."""
        told = {"ganfleet.best.trial": self.trial, "ganfleet.best.fid": f"{self.fid:.4f}"}
        if self.confirmed is not None:
            told["ganfleet.best.mean"] = f"{self.confirmed.mean:.4f}"
            if self.confirmed.sd is not None:
                told["ganfleet.best.sd"] = f"{self.confirmed.sd:.4f}"
            told["ganfleet.best.seeds"] = ",".join(str(run.seed) for run in self.confirmed.runs)
        return told


@dataclass(frozen=True)
class SearchResult:
    """How the trials stand, and how the best settings did when they were played again."""

    outcomes: Sequence[Outcome]
    confirmed: Sequence[ConfirmedTrial]

    @property
    def best(self) -> BestRun | None:
        """The confirmed winner; where no setting is confirmed, or not yet all of them, the trial of the lowest FID."""
        winner = winner_of(self.confirmed) if all(one.whole for one in self.confirmed) else None
        if winner is not None:
            run = winner.typical
            assert run.fid is not None
            assert run.checkpoint is not None
            trial = winner.trial
            return BestRun(trial.trial, trial.settings, run.fid, run.step, Path(run.checkpoint), run.seed, winner)
        best = best_of(self.outcomes)
        if best is None:
            return None
        assert best.fid is not None
        assert best.checkpoint is not None
        return BestRun(best.trial, best.settings, best.fid, best.step, Path(best.checkpoint))
