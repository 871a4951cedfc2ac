"""A search's tables, as files and on the screen: trials, confirmed settings, the best settings, families compared."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from infra.files import write_atomic
from pipelines.console import mean_and_sd, number, say, say_table
from pipelines.runs import RunFolder
from pipelines.search._best import SearchResult
from pipelines.search._families import FamilyRow, family_table
from pipelines.search._outcome import Outcome, ranked, short
from pipelines.search.confirmation.results import ConfirmedTrial
from pipelines.search.plots.draw import picture_of
from pipelines.settings import CommonSettings, SearchExperiment


def write_tables(folder: RunFolder, experiment: SearchExperiment, result: SearchResult) -> list[Path]:
    """Writes `trials.csv`. If settings were confirmed, writes `confirmed.csv`. If a trial has a FID, writes `best.yaml`
    (to train again), `best.json` and `best.png`. Returns the files.

    The confirmed winner of an earlier driver stays until this one has confirmed its own.
    """
    written = [_write_csv(folder.path / "trials.csv", _trials(folder, result.outcomes))]
    best = result.best
    about, picture = folder.best.with_suffix(".json"), folder.best.with_suffix(".png")
    if best is None or (best.confirmed is None and about.is_file() and "seeds" in json.loads(about.read_bytes())):
        return written
    if result.confirmed:
        written.append(_write_csv(folder.path / "confirmed.csv", _confirmed(result.confirmed)))
    settings = experiment.trial(best.settings, best.seed).model_copy(update={"name": None})
    write_atomic(folder.best, settings.to_yaml().encode())
    content = {**best.about, "checkpoint": os.path.relpath(best.checkpoint, folder.path)}
    write_atomic(about, json.dumps(content, indent=1).encode())
    write_atomic(picture, best.picture.read_bytes())
    return [*written, folder.best, about, picture]


def _fields(outcomes: Sequence[Outcome]) -> list[str]:
    return sorted({name for one in outcomes for name in one.settings if name != "name"})


def _write_csv(path: Path, rows: Iterable[Iterable[object]]) -> Path:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)  # a cell that is None is empty
    write_atomic(path, text.getvalue().encode())
    return path


def _trials(folder: RunFolder, outcomes: Sequence[Outcome]) -> list[list[object]]:
    fields = _fields(outcomes)
    rows: list[list[object]] = [
        ["trial", "state", "reason", "fid", "step", "images_per_second", "family", *fields, "checkpoint"],
    ]
    for one in ranked(outcomes):
        values = [one.settings.get(name) for name in fields]
        numbers = [one.fid, one.step, one.images_per_second or None]
        kept = folder.shown(Path(one.checkpoint)) if one.checkpoint else None
        rows.append([one.trial, one.state, one.reason or None, *numbers, one.settings["name"], *values, kept])
    return rows


def _confirmed(confirmed: Sequence[ConfirmedTrial]) -> list[list[object]]:
    """A row per confirmed trial, the winner first, with the final and lowest FID of each seed at its end."""
    fields = _fields([one.trial for one in confirmed])
    seeds = [run.seed for run in confirmed[0].runs]
    by_seed = [f"{what}_{seed}" for seed in seeds for what in ("state", "fid", "best_fid")]
    numbers = ["mean", "sd", "min", "max", "best_mean", "search_fid", "lost"]
    rows: list[list[object]] = [["trial", "family", *fields, *numbers, *by_seed]]
    for one in confirmed:
        values = [one.trial.settings.get(name) for name in fields]
        each = [cell for run in one.runs for cell in (run.state, run.fid, run.best_fid)]
        summary = [one.mean, one.sd, one.lowest, one.highest, one.best_mean, one.trial.fid, len(one.lost)]
        rows.append([one.trial.trial, one.family, *values, *summary, *each])
    return rows


def print_tables(console: Console, folder: RunFolder, result: SearchResult, experiment: CommonSettings) -> None:
    """Prints the tables of trials and of confirmed settings, the best settings, and where the files are."""
    _print_trials(console, result.outcomes)
    if result.confirmed:
        _print_confirmed(console, result.confirmed)
    best = result.best
    if best is None:
        say(console, "no trial has a FID")
        return
    described = next(one.described for one in result.outcomes if one.trial == best.trial)
    score, run = f"FID {number(best.fid)}", f"trial {best.trial}, step {best.step}"
    if best.confirmed is not None:
        score = best.confirmed.summary
        run = f"{run}; checkpoint and samples are of its best run, seed {best.seed}: FID {number(best.run_fid)}"
    elif result.confirmed:
        run += ", unconfirmed: none of the confirmed settings has a FID"
    again = f"ganfleet train --from-search {folder.path.name}{experiment.storage.command_suffix}"
    lines = {
        "best": f"{score}  {described}  ({run})",
        "samples": folder.shown(folder.best.with_suffix(".png")),
        "settings": f"{folder.shown(folder.best)}   ({again})",
        "trials": folder.shown(folder.path / "trials.csv"),
    }
    if picture_of(folder, "samples").is_file():
        lines["sheet"] = f"{folder.shown(picture_of(folder, 'samples'))}   (samples of every trial, best FID first)"
    if result.confirmed:
        lines["confirmed"] = folder.shown(folder.path / "confirmed.csv")
    for name, line in lines.items():
        say(console, f"{name:<9} {line}")


def _print(console: Console, headings: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[str]) -> None:
    """Prints a table without borders. Columns named in `words` are aligned left, the others right."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, no_wrap=True, justify="left" if heading in words else "right")
    for row in rows:
        table.add_row(*row)
    say_table(console, table)


def _print_trials(console: Console, outcomes: Sequence[Outcome]) -> None:
    fields = list(dict.fromkeys(name for one in outcomes for name in one.settings if name != "name"))
    rows = []
    for one in ranked(outcomes):
        values = [short(one.settings[name]) if name in one.settings else "" for name in fields]
        step = f"{one.step}/{one.last_step}"
        rows.append([one.trial, one.settings["name"], *values, step, number(one.fid), one.ending])
    _print(console, ["trial", "family", *fields, "step", "FID", "state"], rows, ["trial", "family", "state"])


def _print_confirmed(console: Console, confirmed: Sequence[ConfirmedTrial]) -> None:
    seeds = len(confirmed[0].runs)
    say(console, f"\nplayed again, {seeds} seed{'' if seeds == 1 else 's'} each; the best mean of final FIDs wins")
    rows = []
    for one in confirmed:
        mean = mean_and_sd(one.mean, one.sd)
        ends = f"{number(one.lowest)}-{number(one.highest)}" if one.fids else "-"
        lost = f"{len(one.lost)} of {seeds} lost: ranked last" if one.lost else ""
        rows.append(
            [one.trial.trial, one.trial.described, mean, ends, number(one.best_mean), number(one.trial.fid), lost]
        )
    headings = ["trial", "settings", "FID mean ± sd", "min-max", "mean of lowest", "in the search", ""]
    _print(console, headings, rows, ["trial", "settings", ""])
    say(console, "")


def write_families(folder: RunFolder, outcomes: Sequence[Outcome], confirmed: Sequence[ConfirmedTrial]) -> list[Path]:
    """Writes `families.csv` with all numbers, and `families.md` to be read. Returns the files."""
    rows = family_table(outcomes, confirmed)
    numbers = [[field.name for field in dataclasses.fields(FamilyRow)], *map(dataclasses.astuple, rows)]
    marks = ["---", *["---:"] * (len(_HEADINGS) - 1)]
    lines = [_HEADINGS, marks, *map(_cells, rows)]
    files = [_write_csv(folder.path / "families.csv", numbers), folder.path / "families.md"]
    write_atomic(files[1], "".join(f"| {' | '.join(line)} |\n" for line in lines).encode())
    return files


def print_families(console: Console, outcomes: Sequence[Outcome], confirmed: Sequence[ConfirmedTrial]) -> None:
    """Prints the comparison as a table."""
    _print(console, _HEADINGS, map(_cells, family_table(outcomes, confirmed)), ["family"])


_HEADINGS = ("family", "trials", "completed", "stopped", "failed", "best FID", "median FID", "quartiles", "confirmed")


def _cells(row: FamilyRow) -> list[str]:
    """A row to be read. The confirmed FID is `mean ± sd (lowest-highest)`, with the number of lost seeds."""
    spread = "-" if row.lower_quartile is None else f"{number(row.lower_quartile)}-{number(row.upper_quartile)}"
    confirmed = mean_and_sd(row.mean, row.sd)
    if row.mean is not None and row.lowest is not None:
        confirmed += f" ({number(row.lowest)}-{number(row.highest)})"
    if row.lost:
        confirmed += f", {row.lost} lost"
    counts = map(str, (row.trials, row.completed, row.stopped, row.failed))
    return [row.family, *counts, number(row.best), number(row.median), spread, confirmed]
