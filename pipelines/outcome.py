"""What a search found: its trials in order of FID, the best settings, and where they lie."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from infra.files import write_atomic
from pipelines.runs import RunFolder
from pipelines.screen import number, say
from pipelines.settings import SearchExperiment


@dataclass(frozen=True)
class Outcome:
    """How one trial went."""

    trial: str
    state: str
    """completed, stopped (early), failed, running or waiting."""
    settings: dict[str, Any]
    """Family name and the sampled fields."""
    step: int
    last_step: int
    fid: float | None
    """At the last evaluation."""
    images_per_second: float | None
    checkpoint: str | None

    @property
    def ended(self) -> bool:
        """Whether the trial will not go on."""
        return self.state in ("completed", "stopped", "failed")

    @property
    def described(self) -> str:
        """The settings in a line: `wgan_gp lr=0.0003 n_critic=3`."""
        fields = [f"{name}={short(value)}" for name, value in self.settings.items() if name != "name"]
        return " ".join([self.settings["name"], *fields])


def short(value: object) -> str:
    """A setting's value with three significant digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def outcome_of(trial: Any, last_step: int) -> Outcome:
    """The outcome of a Ray Tune trial so far. `last_step`: the end of its budget, while it has no result."""
    result = trial.last_result or {}
    step, last_step = int(result.get("step", 0)), int(result.get("last_step", last_step))
    states = {"RUNNING": "running", "ERROR": "failed", "TERMINATED": "completed" if step >= last_step else "stopped"}
    return Outcome(
        trial=trial.trial_id,
        state=states.get(trial.status, "waiting"),
        settings=trial.config["settings"],
        step=step,
        last_step=last_step,
        fid=result.get("fid"),
        images_per_second=result.get("images_per_second"),
        checkpoint=result.get("checkpoint_path"),
    )


def ranked(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Best FID first; those without a FID last. A trial that failed is never the best."""
    return sorted(outcomes, key=lambda one: (one.fid is None, one.state == "failed", one.fid or 0.0))


def best_of(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The trial of the lowest FID that did not fail."""
    sound = [one for one in ranked(outcomes) if one.fid is not None and one.state != "failed" and one.checkpoint]
    return sound[0] if sound else None


def write_outcomes(folder: RunFolder, experiment: SearchExperiment, outcomes: Sequence[Outcome]) -> list[Path]:
    """Writes `trials.csv` and, if a trial has a FID, `best.yaml` (to train again), `best.json` and `best.png`."""
    written = [folder.path / "trials.csv"]
    write_atomic(written[0], _table(outcomes).encode())
    best = best_of(outcomes)
    if best is None:
        return written
    settings = experiment.trial(best.settings).model_copy(update={"name": None})
    write_atomic(folder.best, settings.to_yaml().encode())
    about = {"trial": best.trial, "fid": best.fid, "step": best.step, "checkpoint": best.checkpoint}
    write_atomic(folder.best.with_suffix(".json"), json.dumps(about, indent=1).encode())
    picture = folder.trial(best.trial).pictures()[-1]
    write_atomic(folder.best.with_suffix(".png"), picture.read_bytes())
    return [*written, folder.best, folder.best.with_suffix(".json"), folder.best.with_suffix(".png")]


def _table(outcomes: Sequence[Outcome]) -> str:
    fields = sorted({name for one in outcomes for name in one.settings if name != "name"})
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["trial", "state", "fid", "step", "images_per_second", "family", *fields, "checkpoint"])
    for one in ranked(outcomes):
        values = [one.settings.get(name, "") for name in fields]
        numbers = ["" if one.fid is None else one.fid, one.step, one.images_per_second or ""]
        rows.writerow([one.trial, one.state, *numbers, one.settings["name"], *values, one.checkpoint or ""])
    return text.getvalue()


def say_outcomes(console: Console, folder: RunFolder, outcomes: Sequence[Outcome], storage: Path) -> None:
    """Prints the table of trials, the best settings and where things are."""
    fields = list(dict.fromkeys(name for one in outcomes for name in one.settings if name != "name"))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("trial", "family", *fields, "step", "FID", "state"):
        table.add_column(heading, no_wrap=True, justify="left" if heading in ("trial", "family", "state") else "right")
    for one in ranked(outcomes):
        values = [short(one.settings[name]) if name in one.settings else "" for name in fields]
        step = f"{one.step}/{one.last_step}"
        table.add_row(one.trial, one.settings["name"], *values, step, number(one.fid), one.state)
    console.print(table, soft_wrap=not console.is_terminal)
    best = best_of(outcomes)
    if best is None:
        say(console, "no trial has a FID")
        return
    lines = {
        "best": f"FID {number(best.fid)}  {best.described}  (trial {best.trial}, step {best.step})",
        "samples": str(folder.best.with_suffix(".png")),
        "settings": f"{folder.best}   (ganfleet train --config {folder.best})",
        "trials": str(folder.path / "trials.csv"),
        "curves": f"ganfleet ui storage.path={storage}",
    }
    for name, line in lines.items():
        say(console, f"{name:<9} {line}")
