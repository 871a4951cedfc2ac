"""Parallel coordinates: each trial is a line through its settings to its FID.

It is drawn here, not by Optuna's `plot_parallel_coordinate`: that leaves out failed trials, has a linear FID axis, puts
the fields of all families on one set of axes with `None` for those a trial lacks, and its tick labels hide the lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipelines.search._outcome import Outcome
from pipelines.search.plots._style import Scale, figure, mark_log_axis
from tune_spaces.domains import Range, Space

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FAILED: dict[str, Any] = {"color": "#999999", "linewidth": 1.0, "linestyle": (0, (4, 3))}


def draw_parallel(outcomes: Sequence[Outcome], spaces: Mapping[str, Space]) -> Figure | None:
    """A panel for each family, because families have different fields. None without a FID."""
    fids = [one.fid for one in outcomes if one.fid is not None and one.state != "failed"]
    families = [name for name in spaces if spaces[name] and any(one.settings["name"] == name for one in outcomes)]
    if not fids or not families:
        return None
    low, high = min(fids), max(max(fids), min(fids) * 1.05)
    norm, colours = LogNorm(low, high), colormaps["viridis"]
    widest = max(len(spaces[name]) for name in families)
    sheet = figure(max(1.7 * widest + 2.6, 6.5), 3.1 * len(families) + 0.5)
    panels = sheet.subplots(len(families), 1, squeeze=False)[:, 0]
    for axes, family in zip(panels, families, strict=True):
        own = [one for one in outcomes if one.settings["name"] == family]
        scales = {
            field: Scale.of(domain, [one.settings[field] for one in own if field in one.settings])
            for field, domain in spaces[family].items()
        }
        _panel(axes, own, {**scales, "FID": Scale(Range(low, high, log=True), low, high)}, norm, colours)
        axes.set_title(family, pad=26, fontsize=12)
    about = ScalarMappable(norm, colours)
    bar = sheet.colorbar(about, ax=list(panels), label="FID (dark is best)", pad=0.02, aspect=30 * len(families))
    mark_log_axis(bar.ax.yaxis, low, high)
    if any(one.state == "failed" for one in outcomes):
        sheet.legend(handles=[Line2D([], [], **_FAILED, label="failed")], loc="outside lower left")
    return sheet


def _panel(
    axes: Axes, outcomes: Sequence[Outcome], scales: Mapping[str, Scale], norm: LogNorm, colours: Colormap
) -> None:
    """Draws the best trials last, on top of the others. A failed trial is a dashed grey line without a FID."""
    fields = [name for name in scales if name != "FID"]
    sound = [(one, one.fid) for one in outcomes if one.fid is not None and one.state != "failed"]
    whole = sorted(sound, key=lambda item: -item[1])
    for one in [one for one in outcomes if one.state == "failed"]:
        heights = [scales[field].place(one.settings[field]) for field in fields if field in one.settings]
        axes.plot(range(len(heights)), heights, **_FAILED)
    for rank, (one, fid) in enumerate(whole):
        if any(field not in one.settings for field in fields):
            continue
        heights = [scales[field].place(one.settings[field]) for field in fields] + [scales["FID"].place(fid)]
        good = rank >= len(whole) - max(len(whole) // 10, 1)
        colour = colours(norm(fid))
        axes.plot(range(len(heights)), heights, color=colour, linewidth=2.4 if good else 1.2, alpha=1 if good else 0.6)
    axes.set_xlim(-0.25, len(fields) + 0.25)
    axes.set_ylim(-0.03, 1.03)
    axes.axis("off")
    for place, (name, scale) in enumerate(scales.items()):
        axes.axvline(place, 0.02, 0.98, color="#333333", linewidth=1)
        axes.text(place, 1.05, name, ha="center", va="bottom", fontweight="bold", fontsize=10)
        outward = 1 if name == "FID" else -1
        for height, label in scale.ticks():
            axes.plot([place, place + 0.02 * outward], [height, height], color="#333333", linewidth=1)
            box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
            where = place + 0.035 * outward
            aligned = "left" if name == "FID" else "right"
            axes.text(where, height, label, ha=aligned, va="center", fontsize=8.5, bbox=box, zorder=5)
