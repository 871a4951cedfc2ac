"""The objective against each hyper-parameter that was searched.

It is drawn here, not by Optuna's `plot_slice`: that has a linear axis, one row of panels without sharing fields between
families, no marks for stopped and failed trials, and it changes Matplotlib's global style.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from gan_core.measures import Objective
from pipelines.evaluate.detail.style import COLOURS, figure
from pipelines.search._outcome import Outcome
from pipelines.search.plots._style import MARKERS, Scale, family_handles, is_log, state_handles, value_axis
from tune_spaces.domains import Choice, Space

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3
_TOP, _BOTTOM = 0.96, 0.04
"""The height of failed trials, as a fraction of the axis, where the worst values are: they have no meaningful one."""


def draw_panels(
    outcomes: Sequence[Outcome], spaces: Mapping[str, Space], colours: dict[str, str], objective: Objective
) -> Figure | None:
    """A panel for each field. Families that have a field in common share its panel. None without a value."""
    values = [one.value for one in outcomes if one.value is not None and one.state != "failed"]
    fields = list(dict.fromkeys(field for space in spaces.values() for field in space))
    fields = [field for field in fields if any(field in one.settings for one in outcomes)]
    if not values or not fields:
        return None
    columns = 2 if len(fields) == 4 else min(_COLUMNS, len(fields))
    rows = math.ceil(len(fields) / columns)
    sheet = figure(3.6 * columns + 1.8, 3.0 * rows + 0.4)
    grid = sheet.subplots(rows, columns, sharey=True, squeeze=False)
    by_state = {state: COLOURS[index] for index, state in enumerate(("completed", "stopped", "interrupted"))}
    failed = _TOP if objective.mode == "min" else _BOTTOM
    for axes, field in zip(grid.flat, fields, strict=False):
        _panel(axes, field, outcomes, spaces, colours if len(colours) > 1 else None, by_state, failed)
    for axes in grid.flat[len(fields) :]:
        axes.set_visible(False)
    value_axis(grid[0][0], _with_room(values, objective), objective)
    for row in grid:
        row[0].set_ylabel(objective.label)
    title = f"{objective.label} at each trial's last evaluation, against its settings"
    sheet.suptitle(title, x=0.01, ha="left", fontsize=12)
    states = {one.state for one in outcomes}
    if len(colours) > 1:
        handles = [*family_handles(colours), *state_handles([*states])]
    else:
        handles = state_handles([*states], {**by_state, "failed": "#444444"})
    sheet.legend(handles=handles, loc="outside right upper")
    return sheet


def _with_room(values: Sequence[float], objective: Objective) -> list[float]:
    """The ends of an axis that has room for failed trials beyond the worst value."""
    low, high = min(values), max(values)
    if is_log(objective):
        return [low, high * (high / low) ** 0.12]
    room = 0.12 * (high - low)
    return [low, high + room] if objective.mode == "min" else [low - room, high]


def _panel(
    axes: Axes,
    field: str,
    outcomes: Sequence[Outcome],
    spaces: Mapping[str, Space],
    families: dict[str, str] | None,
    states: dict[str, str],
    height_of_failed: float,
) -> None:
    shown = [one for one in outcomes if field in one.settings]
    domain = next(space[field] for space in spaces.values() if field in space)
    scale = Scale.of(domain, [one.settings[field] for one in shown])
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for number, one in enumerate(shown):
        height = height_of_failed if one.state == "failed" else one.value
        if height is None:
            continue
        x = scale.place(one.settings[field])
        if isinstance(scale.domain, Choice):  # spread out, so that equal values do not hide each other
            x += ((number * 7) % 11 - 5) / 5 * 0.25 / len(scale.domain.values)
        colour = families[one.settings["name"]] if families else states.get(one.state, "#444444")
        groups.setdefault((one.state, colour), []).append((x, height))
    for (state, colour), dots in groups.items():
        failed = state == "failed"
        axes.scatter(
            [x for x, _ in dots],
            [height for _, height in dots],
            s=34,
            color=colour,
            marker=MARKERS[state],
            alpha=0.75,
            linewidths=1.4 if failed else 0,
            transform=axes.get_xaxis_transform() if failed else axes.transData,
            clip_on=False,
        )
    axes.set_xlim(-0.03, 1.03)
    axes.set_xticks([place for place, _ in scale.ticks()], [label for _, label in scale.ticks()])
    axes.set_xlabel(field + (" (log)" if scale.log else ""))
