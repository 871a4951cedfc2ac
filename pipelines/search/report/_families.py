"""Writes and prints the comparison of families."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from rich.console import Console
from rich.table import Table

from infra.files import write_atomic
from pipelines.console import number
from pipelines.runs import RunFolder
from pipelines.search._families import FamilyRow, family_table
from pipelines.search._outcome import Outcome
from pipelines.search.confirmation.results import ConfirmedTrial


def write_families(folder: RunFolder, outcomes: Sequence[Outcome], confirmed: Sequence[ConfirmedTrial]) -> list[Path]:
    """Writes `families.csv` with all numbers, and `families.md` to be read. Returns the files."""
    rows = family_table(outcomes, confirmed)
    files = {folder.path / "families.csv": _csv(rows), folder.path / "families.md": _markdown(rows)}
    for path, text in files.items():
        write_atomic(path, text.encode())
    return [*files]


def print_families(console: Console, outcomes: Sequence[Outcome], confirmed: Sequence[ConfirmedTrial]) -> None:
    """Prints the comparison as a table."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in _HEADINGS:
        table.add_column(heading, no_wrap=True, justify="left" if heading == "family" else "right")
    for row in family_table(outcomes, confirmed):
        table.add_row(*_cells(row))
    console.print(table, soft_wrap=not console.is_terminal)


_HEADINGS = ("family", "trials", "completed", "stopped", "failed", "best FID", "median FID", "quartiles", "confirmed")


def _cells(row: FamilyRow) -> list[str]:
    """A row to be read. The confirmed FID is `mean ± sd (lowest-highest)`, with the number of lost seeds."""
    spread = "-" if row.lower_quartile is None else f"{number(row.lower_quartile)}-{number(row.upper_quartile)}"
    confirmed = "-" if row.mean is None else number(row.mean)
    if row.sd is not None:
        confirmed += f" ± {number(row.sd)}"
    if row.mean is not None and row.lowest is not None:
        confirmed += f" ({number(row.lowest)}-{number(row.highest)})"
    if row.lost:
        confirmed += f", {row.lost} lost"
    counts = map(str, (row.trials, row.completed, row.stopped, row.failed))
    return [row.family, *counts, number(row.best), number(row.median), spread, confirmed]


def _csv(rows: Sequence[FamilyRow]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(FamilyRow))
    writer.writerows(["" if cell is None else cell for cell in asdict(row).values()] for row in rows)
    return text.getvalue()


def _markdown(rows: Sequence[FamilyRow]) -> str:
    marks = ["---", *["---:"] * (len(_HEADINGS) - 1)]
    lines = [_HEADINGS, marks, *map(_cells, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
