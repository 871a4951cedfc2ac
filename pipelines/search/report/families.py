"""Families compared: how the trials of each went, as a table whose rows are families."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich.console import Console
from rich.table import Table

from infra.files import write_atomic
from pipelines.console import number
from pipelines.runs import RunFolder
from pipelines.search._outcome import Outcome
from pipelines.search.confirmation.results import ConfirmedTrial


@dataclass(frozen=True)
class FamilyRow:
    """How one family did. FIDs are those at the last evaluation of trials that did not fail; None where there are none;
    `mean` and what follows are the final FIDs of the family's best confirmed settings, `lost` the seeds without one."""

    family: str
    trials: int
    completed: int
    stopped: int
    failed: int
    best: float | None
    median: float | None
    lower_quartile: float | None
    upper_quartile: float | None
    mean: float | None
    sd: float | None
    lowest: float | None
    highest: float | None
    lost: int | None


def family_table(outcomes: Sequence[Outcome], confirmed: Sequence[ConfirmedTrial]) -> list[FamilyRow]:
    """A row for each family: the best confirmed mean first, of those that lost no seed; then by the best FID of the
    search. `confirmed`: the best settings first."""
    names = list(dict.fromkeys(one.settings["name"] for one in outcomes))
    rows = [_row(name, [one for one in outcomes if one.settings["name"] == name], confirmed) for name in names]
    return sorted(rows, key=_rank)


def fids_of(outcomes: Sequence[Outcome], family: str) -> list[float]:
    """The FIDs of a family's trials that did not fail, lowest first."""
    own = [one for one in outcomes if one.settings["name"] == family and one.state != "failed"]
    return sorted(one.fid for one in own if one.fid is not None)


def write_families(folder: RunFolder, outcomes: Sequence[Outcome], confirmed: Sequence[ConfirmedTrial]) -> list[Path]:
    """Writes the table as `families.csv` and, as people read it, `families.md`. Returns the files."""
    rows = family_table(outcomes, confirmed)
    files = {folder.path / "families.csv": _csv(rows), folder.path / "families.md": _markdown(rows)}
    for path, text in files.items():
        write_atomic(path, text.encode())
    return [*files]


def print_families(console: Console, outcomes: Sequence[Outcome], confirmed: Sequence[ConfirmedTrial]) -> None:
    """Prints the table."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in _HEADINGS:
        table.add_column(heading, no_wrap=True, justify="left" if heading == "family" else "right")
    for row in family_table(outcomes, confirmed):
        table.add_row(*_cells(row))
    console.print(table, soft_wrap=not console.is_terminal)


def _row(family: str, outcomes: Sequence[Outcome], confirmed: Sequence[ConfirmedTrial]) -> FamilyRow:
    fids = fids_of(outcomes, family)
    lower, upper = _quartiles(fids)
    best = next((one for one in confirmed if one.family == family and one.whole and one.mean is not None), None)
    return FamilyRow(
        family,
        trials=len(outcomes),
        **{state: sum(one.state == state for one in outcomes) for state in ("completed", "stopped", "failed")},
        best=min(fids, default=None),
        median=statistics.median(fids) if fids else None,
        lower_quartile=lower,
        upper_quartile=upper,
        mean=best.mean if best else None,
        sd=best.sd if best else None,
        lowest=best.lowest if best else None,
        highest=best.highest if best else None,
        lost=len(best.lost) if best else None,
    )


def _quartiles(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Between the values, as NumPy's percentiles; those of a single one are itself."""
    if not values:
        return None, None
    if len(values) == 1:
        return values[0], values[0]
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, upper


def _rank(row: FamilyRow) -> tuple[object, ...]:
    """As settings are ranked: those that lost a seed come after those that lost none."""
    return (row.mean is None, row.lost or 0, row.mean or 0.0, row.best is None, row.best or 0.0, row.family)


_HEADINGS = ("family", "trials", "completed", "stopped", "failed", "best FID", "median FID", "quartiles", "confirmed")


def _cells(row: FamilyRow) -> list[str]:
    """As people read them; the confirmed one as mean ± sd (lowest-highest), and how many seeds were lost."""
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
