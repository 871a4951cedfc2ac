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

from gan_core.measures import Objective
from infra.files import write_atomic
from pipelines.console import mean_and_sd, number, say, say_table
from pipelines.runs import RunFolder
from pipelines.search._best import SearchResult
from pipelines.search._families import FamilyRow, family_table
from pipelines.search._outcome import Outcome, ranked, short, short_names
from pipelines.search.confirmation.results import ConfirmedTrial
from pipelines.search.plots.draw import picture_of
from pipelines.settings import CommonSettings, SearchExperiment


def write_tables(folder: RunFolder, experiment: SearchExperiment, result: SearchResult) -> list[Path]:
    """Writes `trials.csv`. If settings were confirmed, writes `confirmed.csv`. If a trial has a value, writes
    `best.yaml` (to train again), `best.json` and `best.png`. Returns the files.

    The confirmed winner of an earlier driver stays until this one has confirmed its own.
    """
    written = [write_csv(folder.path / "trials.csv", _trials(folder, result.outcomes, result.objective))]
    best = result.best
    about, picture = folder.best.with_suffix(".json"), folder.best.with_suffix(".png")
    if best is None or (best.confirmed is None and about.is_file() and "seeds" in json.loads(about.read_bytes())):
        return written
    if result.confirmed:
        written.append(write_csv(folder.path / "confirmed.csv", _confirmed(result.confirmed, result.objective)))
    settings = experiment.trial(best.settings, best.seed).model_copy(update={"name": None})
    write_atomic(folder.best, settings.to_yaml().encode())
    content = {**best.about, "checkpoint": os.path.relpath(best.checkpoint, folder.path)}
    write_atomic(about, json.dumps(content, indent=1).encode())
    write_atomic(picture, best.picture.read_bytes())
    return [*written, folder.best, about, picture]


def _fields(outcomes: Sequence[Outcome]) -> list[str]:
    return sorted({name for one in outcomes for name in one.settings if name != "name"})


def write_csv(path: Path, rows: Iterable[Iterable[object]]) -> Path:
    """Writes the rows as a CSV file and returns it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)  # a cell that is None is empty
    write_atomic(path, text.getvalue().encode())
    return path


def _trials(folder: RunFolder, outcomes: Sequence[Outcome], objective: Objective) -> list[list[object]]:
    """A row per trial, the best first. FID has a column of its own if the objective is another measure."""
    fields, also = _fields(outcomes), [] if objective.is_fid else ["fid"]
    rows: list[list[object]] = [
        [
            "trial",
            "state",
            "reason",
            objective.name,
            *also,
            "step",
            "images_per_second",
            "family",
            *fields,
            "checkpoint",
        ]
    ]
    for one in ranked(outcomes, objective):
        values = [one.settings.get(name) for name in fields]
        numbers = [one.value, *(one.fid for _ in also), one.step, one.images_per_second or None]
        kept = folder.shown(Path(one.checkpoint)) if one.checkpoint else None
        rows.append([one.trial, one.state, one.reason or None, *numbers, one.settings["name"], *values, kept])
    return rows


def _confirmed(confirmed: Sequence[ConfirmedTrial], objective: Objective) -> list[list[object]]:
    """A row per confirmed trial, the winner first, with the final and best value of each seed at its end, and its final
    FID if the objective is another measure."""
    name, also = objective.name, [] if objective.is_fid else ["fid"]
    fields = _fields([one.trial for one in confirmed])
    seeds = [run.seed for run in confirmed[0].runs]
    by_seed = [f"{what}_{seed}" for seed in seeds for what in ("state", name, f"best_{name}", *also)]
    numbers = ["mean", "sd", "min", "max", "best_mean", f"search_{name}", "lost"]
    rows: list[list[object]] = [["trial", "family", *fields, *numbers, *by_seed]]
    for one in confirmed:
        values = [one.trial.settings.get(name) for name in fields]
        each = [cell for run in one.runs for cell in (run.state, run.value, run.best_value, *(run.fid for _ in also))]
        summary = [one.mean, one.sd, one.lowest, one.highest, one.best_mean, one.trial.value, len(one.lost)]
        rows.append([one.trial.trial, one.family, *values, *summary, *each])
    return rows


def print_tables(console: Console, folder: RunFolder, result: SearchResult, experiment: CommonSettings) -> None:
    """Prints the tables of trials and of confirmed settings, the best settings, and where the files are."""
    objective = result.objective
    label = objective.label
    _print_trials(console, result.outcomes, objective)
    if result.confirmed:
        _print_confirmed(console, result.confirmed, objective)
    best = result.best
    if best is None:
        say(console, f"no trial has a {label}")
        return
    described = next(one.described for one in result.outcomes if one.trial == best.trial)
    score, run = f"{label} {number(best.value)}", f"trial {best.trial}, step {best.step}"
    if best.confirmed is not None:
        score = best.confirmed.summary
        run = f"{run}; checkpoint and samples are of its best run, seed {best.seed}: {label} {number(best.run_value)}"
    elif result.confirmed:
        run += f", unconfirmed: none of the confirmed settings has a {label}"
    if not objective.is_fid:
        run += f"; its FID {number(best.run_fid)}"
    again = f"ganfleet train --from-search {folder.path.name}{experiment.storage.command_suffix}"
    lines = {
        "best": f"{score}  {described}  ({run})",
        "samples": folder.shown(folder.best.with_suffix(".png")),
        "settings": f"{folder.shown(folder.best)}   ({again})",
        "trials": folder.shown(folder.path / "trials.csv"),
    }
    if picture_of(folder, "samples").is_file():
        lines["sheet"] = f"{folder.shown(picture_of(folder, 'samples'))}   (samples of every trial, best {label} first)"
    if result.confirmed:
        lines["confirmed"] = folder.shown(folder.path / "confirmed.csv")
    for name, line in lines.items():
        say(console, f"{name:<9} {line}")


def print_table(console: Console, headings: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[str]) -> None:
    """Prints a table without borders. Columns named in `words` are aligned left, the others right."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, no_wrap=True, justify="left" if heading in words else "right")
    for row in rows:
        table.add_row(*row)
    say_table(console, table)


def _print_trials(console: Console, outcomes: Sequence[Outcome], objective: Objective) -> None:
    measured = [objective.label] + ["FID"] * (not objective.is_fid)
    fields = list(dict.fromkeys(name for one in outcomes for name in one.settings if name != "name"))
    rows = []
    for one in ranked(outcomes, objective):
        values = [short(one.settings[name]) if name in one.settings else "" for name in fields]
        step = f"{one.step}/{one.last_step}"
        numbers = [number(one.value)] + [number(one.fid)] * (not objective.is_fid)
        rows.append([one.trial, one.settings["name"], *values, step, *numbers, one.ending])
    print_table(console, ["trial", "family", *fields, "step", *measured, "state"], rows, ["trial", "family", "state"])


def _print_confirmed(console: Console, confirmed: Sequence[ConfirmedTrial], objective: Objective) -> None:
    seeds = len(confirmed[0].runs)
    finals = "final FIDs" if objective.is_fid else f"the final {objective.label}"
    say(console, f"\nplayed again, {seeds} seed{'' if seeds == 1 else 's'} each; the best mean of {finals} wins")
    rows = []
    for one in confirmed:
        mean = mean_and_sd(one.mean, one.sd)
        ends = _from_to(one.lowest, one.highest)
        lost = f"{len(one.lost)} of {seeds} lost: ranked last" if one.lost else ""
        rows.append(
            [one.trial.trial, one.trial.described, mean, ends, number(one.best_mean), number(one.trial.value), lost]
        )
    label, best = objective.label, f"mean of {objective.extreme}"
    headings = ["trial", "settings", f"{label} mean ± sd", "min-max", best, "in the search", ""]
    print_table(console, headings, rows, ["trial", "settings", ""])
    say(console, "")


def write_families(folder: RunFolder, result: SearchResult) -> list[Path]:
    """Writes `families.csv` with all numbers and whole names, and `families.md` to be read. Returns the files."""
    rows, headings = family_table(result.outcomes, result.confirmed, result.objective), _headings(result.objective)
    numbers = [[field.name for field in dataclasses.fields(FamilyRow)], *map(dataclasses.astuple, rows)]
    marks = ["---", *["---:"] * (len(headings) - 1)]
    names = short_names(row.family for row in rows)
    lines = [headings, marks, *(_cells(dataclasses.replace(row, family=names[row.family])) for row in rows)]
    files = [write_csv(folder.path / "families.csv", numbers), folder.path / "families.md"]
    write_atomic(files[1], "".join(f"| {' | '.join(line)} |\n" for line in lines).encode())
    return files


def print_families(console: Console, result: SearchResult) -> None:
    """Prints the comparison as a table."""
    rows = family_table(result.outcomes, result.confirmed, result.objective)
    print_table(console, _headings(result.objective), map(_cells, rows), ["family"])


def _headings(objective: Objective) -> Sequence[str]:
    counted, label = ("trials", "completed", "stopped", "failed"), objective.label
    return ("family", *counted, f"best {label}", f"median {label}", "quartiles", "confirmed")


def _from_to(low: float | None, high: float | None) -> str:
    """`31.0-32.5`; with words below zero, where the line would be a sign."""
    if low is None or high is None:
        return "-"
    return f"{number(low)}{' to ' if low < 0 else '-'}{number(high)}"


def _cells(row: FamilyRow) -> list[str]:
    """A row to be read. The confirmed value is `mean ± sd (lowest-highest)`, with the number of lost seeds."""
    spread = _from_to(row.lower_quartile, row.upper_quartile)
    confirmed = mean_and_sd(row.mean, row.sd)
    if row.mean is not None and row.lowest is not None:
        confirmed += f" ({_from_to(row.lowest, row.highest)})"
    if row.lost:
        confirmed += f", {row.lost} lost"
    counts = map(str, (row.trials, row.completed, row.stopped, row.failed))
    return [row.family, *counts, number(row.best), number(row.median), spread, confirmed]
