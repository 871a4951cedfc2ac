"""Box plots of the objective by family, like the figures of "Are GANs Created Equal?" (Lucic et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from gan_core.measures import Objective
from pipelines.evaluate.detail.style import figure
from pipelines.search._families import FamilyRow, family_table, values_of
from pipelines.search._outcome import Outcome
from pipelines.search.confirmation.results import ConfirmedTrial
from pipelines.search.plots._style import handle, value_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MEAN = "#111111"


def draw_boxes(
    outcomes: Sequence[Outcome],
    confirmed: Sequence[ConfirmedTrial],
    colours: Mapping[str, str],
    objective: Objective,
) -> Figure | None:
    """A box for each family's values, with a point for each trial and the mean of the best confirmed settings.

    The box shows median and quartiles; its whiskers end at the last trial within 1.5 interquartile ranges. None if no
    family has a value.
    """
    rows = {row.family: row for row in family_table(outcomes, confirmed, objective)}
    found = {family: values_of(outcomes, family) for family in colours if family in rows}
    means = {family: row.mean for family, row in rows.items() if row.mean is not None}
    every = [value for values in found.values() for value in values]
    if not every:
        return None
    sheet = figure(max(1.25 * len(found) + 1.2, 5.0), 4.8)
    axes = sheet.subplots()
    for place, (family, values) in enumerate(found.items()):
        if values:
            _box(axes, place, values, colours[family])
        if family in means:
            axes.scatter([place], [means[family]], marker="D", s=46, color=_MEAN, edgecolors="white", zorder=4)
    labels = [_label(rows[family]) for family in found]
    axes.set_xticks(range(len(found)), labels)
    axes.set_xlim(-0.6, len(found) - 0.4)
    axes.grid(visible=False, axis="x")
    value_axis(axes, [*every, *means.values()], objective)
    axes.set_title(f"{objective.label} of each family's trials")
    if means:
        diamond = handle("mean of the best settings over fresh seeds", _MEAN, "D")
        sheet.legend(handles=[diamond], loc="outside lower center")
    return sheet


def _label(row: FamilyRow) -> str:
    return f"{row.family}\n{row.trials} trials" + (f"\n{row.failed} failed" if row.failed else "")


def _box(axes: Axes, place: int, values: Sequence[float], colour: str) -> None:
    """One family's box. Its points are spread horizontally by rank, so that equal ones do not hide each other."""
    line = {"color": colour, "linewidth": 1.6}
    axes.boxplot(
        [list(values)],
        positions=[place],
        widths=0.55,
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": f"{colour}30", "edgecolor": colour, "linewidth": 1.6},
        medianprops={"color": colour, "linewidth": 2.6},
        whiskerprops=line,
        capprops=line,
    )
    across = [place + ((index * 7) % 11 - 5) / 5 * 0.17 for index in range(len(values))]
    axes.scatter(across, values, s=14, color=colour, alpha=0.55, linewidths=0, zorder=3)
