"""A search of the models of "Are GANs Created Equal?" beside what the study published, as files and on the screen."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from infra.files import write_atomic
from pipelines.console import mean_and_sd, say
from pipelines.runs import RunFolder
from pipelines.search._study import StudyRow, StudyTable
from pipelines.search.report._tables import print_table, write_csv


def write_published(folder: RunFolder, table: StudyTable) -> list[Path]:
    """Writes `published.csv` with all numbers, and `published.md` to be read, with what is to be known of them. Returns
    the files."""
    fields = [field.name for field in dataclasses.fields(StudyRow)]
    numbers = write_csv(folder.path / "published.csv", [fields, *map(dataclasses.astuple, table.rows)])
    headings = _headings(table)
    rows = [headings, ["---", *["---:"] * (len(headings) - 1)], *map(_cells, table.rows)]
    text = "".join(f"| {' | '.join(row)} |\n" for row in rows) + "".join(f"\n{line}\n" for line in table.lines)
    write_atomic(folder.path / "published.md", text.encode())
    return [numbers, folder.path / "published.md"]


def print_published(console: Console, folder: RunFolder, table: StudyTable) -> None:
    """Prints the table, what is to be known of it, and where it is."""
    say(console, '\nbeside "Are GANs Created Equal?" (Lucic et al. 2018)')
    print_table(console, _headings(table), map(_cells, table.rows), ["model"])
    for line in table.lines:
        say(console, line)
    say(console, f"published {folder.shown(folder.path / 'published.md')}")


def _headings(table: StudyTable) -> Sequence[str]:
    return ("model", "here", table.title, "rank here", "rank published")


def _cells(row: StudyRow) -> list[str]:
    lost = f", {row.lost} lost" if row.lost else ""
    here, known = (
        "-" if mean is None else mean_and_sd(mean, sd)
        for mean, sd in ((row.mean, row.sd), (row.published, row.published_sd))
    )
    return [
        row.model,
        here + lost,
        known,
        *("-" if rank is None else str(rank) for rank in (row.rank, row.published_rank)),
    ]
