"""The best value so far against compute."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from gan_core.measures import Objective
from pipelines.console import number
from pipelines.evaluate.detail.style import figure
from pipelines.search.plots._history import Point, best_so_far
from pipelines.search.plots._style import MARKERS, family_handles, handle, images_text, value_axis

_LINE = "#222222"


def draw_progress(points: Sequence[Point], colours: dict[str, str], objective: Objective) -> Figure | None:
    """A line of the best value so far, and a point for each evaluation. None without an evaluation."""
    best = best_so_far(points, objective)
    if not best:
        return None
    sheet = figure(8.5, 4.8)
    axes = sheet.subplots()
    for family, colour in colours.items():
        own = [point for point in points if point.trial.settings["name"] == family]
        for failed in (False, True):
            shown = [point for point in own if (point.trial.state == "failed") == failed]
            marker = MARKERS["failed"] if failed else "o"
            where = [point.images for point in shown], [point.value for point in shown]
            axes.scatter(*where, s=22, color=colour, alpha=0.4, marker=marker, linewidths=1.0 if failed else 0)
    end = points[-1].images
    x, y = [point.images for point in best], [point.value for point in best]
    axes.step([*x, end], [*y, y[-1]], where="post", color=_LINE, linewidth=2)
    axes.scatter(x, y, s=26, color=_LINE, zorder=3)
    value_axis(axes, [point.value for point in points], objective)
    axes.set_xlim(0, end * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(7))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: images_text(value)))
    axes.set_xlabel("real images seen, all trials together")
    found = f"{images_text(x[-1])} of {images_text(end)} images"
    best_of_all = f"{objective.extreme.capitalize()} {objective.label} of any evaluation: {number(y[-1])}"
    axes.set_title(f"{best_of_all}, after {found}")
    handles = [Line2D([], [], color=_LINE, marker="o", markersize=5, label="best so far"), *family_handles(colours)]
    if any(point.trial.state == "failed" for point in points):
        handles.append(handle("of a failed trial", "#666666", "x"))
    sheet.legend(handles=handles, loc="outside right upper")
    return sheet
