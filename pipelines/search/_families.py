"""A comparison of families: how the trials of each went."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from gan_core.measures import Objective
from pipelines.search._outcome import Outcome
from pipelines.search.confirmation.results import ConfirmedTrial


@dataclass(frozen=True)
class FamilyRow:
    """How one family did.

    `best` to `upper_quartile`: of the objective at the last evaluation of the trials that did not fail, None without
    any. `mean` to `highest`: final values of the family's best confirmed settings. `lost`: how many of their seeds have
    none.
    """

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


def family_table(
    outcomes: Sequence[Outcome], confirmed: Sequence[ConfirmedTrial], objective: Objective
) -> list[FamilyRow]:
    """A row for each family, the best first: by the mean of the confirmed settings, after families that lost no seed;
    those without confirmed settings by their best value in the search. `confirmed`: the best settings first."""
    names = list(dict.fromkeys(one.settings["name"] for one in outcomes))
    own = {name: [one for one in outcomes if one.settings["name"] == name] for name in names}
    rows = [_row(name, own[name], confirmed, objective) for name in names]
    return sorted(rows, key=lambda row: _rank(row, objective))


def values_of(outcomes: Sequence[Outcome], family: str) -> list[float]:
    """The values of a family's trials that did not fail, lowest first."""
    own = [one for one in outcomes if one.settings["name"] == family and one.state != "failed"]
    return sorted(one.value for one in own if one.value is not None)


def _row(
    family: str, outcomes: Sequence[Outcome], confirmed: Sequence[ConfirmedTrial], objective: Objective
) -> FamilyRow:
    values = values_of(outcomes, family)
    lower, median, upper = _quartiles(values)
    best = next((one for one in confirmed if one.family == family and one.all_ended and one.mean is not None), None)
    return FamilyRow(
        family,
        trials=len(outcomes),
        **{state: sum(one.state == state for one in outcomes) for state in ("completed", "stopped", "failed")},
        best=objective.best(values),
        median=median,
        lower_quartile=lower,
        upper_quartile=upper,
        mean=best.mean if best else None,
        sd=best.sd if best else None,
        lowest=best.lowest if best else None,
        highest=best.highest if best else None,
        lost=len(best.lost) if best else None,
    )


def _quartiles(values: Sequence[float]) -> Sequence[float | None]:
    """Lower quartile, median and upper quartile, interpolated between values as NumPy's percentiles are. A single value
    is all three."""
    if len(values) < 2:
        return [values[0] if values else None] * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def _rank(row: FamilyRow, objective: Objective) -> tuple[object, ...]:
    """The order of `family_table`: families that lost a seed come after those that lost none."""
    mean, best = objective.loss(row.mean or 0.0), objective.loss(row.best or 0.0)
    return (row.mean is None, row.lost or 0, mean, row.best is None, best, row.family)
