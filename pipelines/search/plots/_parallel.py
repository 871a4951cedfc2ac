"""Parallel coordinates: each trial is a line through its settings to its value of the objective.

It is drawn here, not by Optuna's `plot_parallel_coordinate`: that leaves out failed trials, has a linear axis, puts the
fields of all families on one set of axes with `None` for those a trial lacks, and its tick labels hide the lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gan_core.measures import Objective
from pipelines.evaluate.detail.style import figure
from pipelines.search._outcome import Outcome
from pipelines.search.plots._style import Scale, is_log, mark_log_axis
from tune_spaces.domains import Range, Space

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FAILED: dict[str, Any] = {"color": "#999999", "linewidth": 1.0, "linestyle": (0, (4, 3))}


def draw_parallel(outcomes: Sequence[Outcome], spaces: Mapping[str, Space], objective: Objective) -> Figure | None:
    """A panel for each family, because families have different fields. None without a value."""
    values = [one.value for one in outcomes if one.value is not None and one.state != "failed"]
    families = [name for name in spaces if spaces[name] and any(one.settings["name"] == name for one in outcomes)]
    if not values or not families:
        return None
    low, high = min(values), max(max(values), min(values) + 0.05 * abs(min(values)))
    norm = LogNorm(low, high) if is_log(objective) else Normalize(low, high)
    colours = colormaps["viridis" if objective.mode == "min" else "viridis_r"]
    widest = max(len(spaces[name]) for name in families)
    sheet = figure(max(1.7 * widest + 2.6, 6.5), 3.1 * len(families) + 0.5)
    panels = sheet.subplots(len(families), 1, squeeze=False)[:, 0]
    for axes, family in zip(panels, families, strict=True):
        own = [one for one in outcomes if one.settings["name"] == family]
        scales = {
            field: Scale.of(domain, [one.settings[field] for one in own if field in one.settings])
            for field, domain in spaces[family].items()
        }
        value_scale = Scale(Range(low, high, log=is_log(objective)), low, high)
        _panel(axes, own, scales, value_scale, objective, norm, colours)
        axes.set_title(family, pad=26, fontsize=12)
    about = ScalarMappable(norm, colours)
    label = f"{objective.label} (dark is best)"
    bar = sheet.colorbar(about, ax=list(panels), label=label, pad=0.02, aspect=30 * len(families))
    if is_log(objective):
        mark_log_axis(bar.ax.yaxis, low, high)
    if any(one.state == "failed" for one in outcomes):
        sheet.legend(handles=[Line2D([], [], **_FAILED, label="failed")], loc="outside lower left")
    return sheet


def _panel(
    axes: Axes,
    outcomes: Sequence[Outcome],
    scales: Mapping[str, Scale],
    value_scale: Scale,
    objective: Objective,
    norm: Normalize,
    colours: Colormap,
) -> None:
    """Draws the best trials last, on top of the others. A failed trial is a dashed grey line without a value."""
    fields = [*scales]
    sound = [(one, one.value) for one in outcomes if one.value is not None and one.state != "failed"]
    whole = sorted(sound, key=lambda item: -objective.loss(item[1]))
    for one in [one for one in outcomes if one.state == "failed"]:
        heights = [scales[field].place(one.settings[field]) for field in fields if field in one.settings]
        axes.plot(range(len(heights)), heights, **_FAILED)
    for rank, (one, value) in enumerate(whole):
        if any(field not in one.settings for field in fields):
            continue
        heights = [scales[field].place(one.settings[field]) for field in fields] + [value_scale.place(value)]
        good = rank >= len(whole) - max(len(whole) // 10, 1)
        colour = colours(norm(value))
        axes.plot(range(len(heights)), heights, color=colour, linewidth=2.4 if good else 1.2, alpha=1 if good else 0.6)
    axes.set_xlim(-0.25, len(fields) + 0.25)
    axes.set_ylim(-0.03, 1.03)
    axes.axis("off")
    for place, (name, scale) in enumerate([*scales.items(), (objective.label, value_scale)]):
        is_value = scale is value_scale
        axes.axvline(place, 0.02, 0.98, color="#333333", linewidth=1)
        axes.text(place, 1.05, name, ha="center", va="bottom", fontweight="bold", fontsize=10)
        outward = 1 if is_value else -1
        for height, label in scale.ticks():
            axes.plot([place, place + 0.02 * outward], [height, height], color="#333333", linewidth=1)
            box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
            where = place + 0.035 * outward
            aligned = "left" if is_value else "right"
            axes.text(where, height, label, ha=aligned, va="center", fontsize=8.5, bbox=box, zorder=5)
