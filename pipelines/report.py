"""What a search found: the table of its trials, the best settings, and where they lie."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from infra.files import write_atomic
from pipelines.outcome import Outcome, best_of, ranked, short
from pipelines.runs import RunFolder
from pipelines.screen import number, say
from pipelines.settings import SearchExperiment, Storage


def write_outcomes(folder: RunFolder, experiment: SearchExperiment, outcomes: Sequence[Outcome]) -> list[Path]:
    """Writes `trials.csv` and, if a trial has a FID, `best.yaml` (to train again), `best.json` and `best.png`."""
    written = [folder.path / "trials.csv"]
    write_atomic(written[0], _table(outcomes).encode())
    best = best_of(outcomes)
    if best is None:
        return written
    settings = experiment.trial(best.settings).model_copy(update={"name": None})
    write_atomic(folder.best, settings.to_yaml().encode())
    about = {
        "trial": best.trial,
        "fid": best.fid,
        "step": best.step,
        "checkpoint": os.path.relpath(str(best.checkpoint), folder.path),
    }
    write_atomic(folder.best.with_suffix(".json"), json.dumps(about, indent=1).encode())
    picture = folder.trial(best.trial).picture(best.step)
    write_atomic(folder.best.with_suffix(".png"), picture.read_bytes())
    return [*written, folder.best, folder.best.with_suffix(".json"), folder.best.with_suffix(".png")]


def _table(outcomes: Sequence[Outcome]) -> str:
    fields = sorted({name for one in outcomes for name in one.settings if name != "name"})
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["trial", "state", "reason", "fid", "step", "images_per_second", "family", *fields, "checkpoint"])
    for one in ranked(outcomes):
        values = [one.settings.get(name, "") for name in fields]
        numbers = ["" if one.fid is None else one.fid, one.step, one.images_per_second or ""]
        rows.writerow([one.trial, one.state, one.reason, *numbers, one.settings["name"], *values, one.checkpoint or ""])
    return text.getvalue()


def say_outcomes(console: Console, folder: RunFolder, outcomes: Sequence[Outcome], storage: Storage) -> None:
    """Prints the table of trials, the best settings and where things are."""
    fields = list(dict.fromkeys(name for one in outcomes for name in one.settings if name != "name"))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("trial", "family", *fields, "step", "FID", "state"):
        table.add_column(heading, no_wrap=True, justify="left" if heading in ("trial", "family", "state") else "right")
    for one in ranked(outcomes):
        values = [short(one.settings[name]) if name in one.settings else "" for name in fields]
        step = f"{one.step}/{one.last_step}"
        table.add_row(one.trial, one.settings["name"], *values, step, number(one.fid), one.ending)
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
        "curves": f"ganfleet ui{storage.argument}",
    }
    for name, line in lines.items():
        say(console, f"{name:<9} {line}")
