"""The style of drawn curves: colours for the colour-blind, figures without pyplot."""

from __future__ import annotations

import io
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

DPI = 130

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#444444")
"""Okabe and Ito's palette without yellow, which is hard to see on white."""

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
}
"""Figures are filled and saved with these settings."""


def figure(width: float, height: float) -> Figure:
    """An empty figure, sides in inches. It is made without pyplot, whose state is global."""
    return Figure(figsize=(width, height), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))


def png_of(picture: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    with rc_context(STYLE):
        picture.savefig(buffer, format="png")
    return buffer.getvalue()
