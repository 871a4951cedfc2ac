"""Ranks of the models of "Are GANs Created Equal?" here, beside those that the study published (Lucic et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from pipelines.console import mean_and_sd
from pipelines.evaluate.detail.style import figure
from pipelines.search._study import StudyTable


def draw_published(table: StudyTable | None, colours: Mapping[str, str]) -> Figure | None:
    """A line for each model from its rank here to its published one, the lowest FID on top. None if the study has no
    such column, or with fewer than two models."""
    rows = [(row, row.rank, row.published_rank) for row in table.rows] if table else []
    both = [(row, here, known) for row, here, known in rows if here is not None and known is not None]
    if table is None or len(both) < 2:
        return None
    sheet = figure(8.0, 0.5 * len(both) + 1.6)
    axes = sheet.subplots()
    for row, here, known in both:
        colour, left = colours[row.model], mean_and_sd(row.mean, row.sd)
        right = mean_and_sd(row.published, row.published_sd)
        axes.plot([0, 1], [here, known], color=colour, linewidth=2, marker="o", markersize=6)
        axes.text(-0.05, here, f"{row.model}   {left}", ha="right", va="center", color=colour)
        axes.text(1.05, known, f"{right}   {row.model}", ha="left", va="center", color=colour)
    axes.set_xlim(-1.2, 2.2)
    axes.set_ylim(len(both) + 0.5, 0.5)
    axes.set_xticks([0, 1], [f"FID here\n({table.extractor})", f"FID {table.title}\n(Inception)"])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    found = table.correlations.get(table.published or "")
    about = "" if found is None else f": Spearman's rank correlation {found:.2f}"
    axes.set_title(f"Ranks of {len(both)} models{about}. Only ranks compare.")
    return sheet
