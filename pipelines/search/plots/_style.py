"""The style of a search's pictures: colours of families, axes of the objective, axes of a setting's domain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from gan_core.measures import Objective
from pipelines.evaluate.detail.style import COLOURS
from tune_spaces.domains import Choice, Domain, Range, Whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from pipelines.settings import SearchExperiment

MARKERS = {"completed": "o", "stopped": "v", "interrupted": "s", "running": "s", "waiting": "s", "failed": "x"}


def families_of(experiment: SearchExperiment) -> dict[str, str]:
    """The colour of each family, the same in all pictures."""
    return {label: COLOURS[index % len(COLOURS)] for index, label in enumerate(experiment.entries)}


def is_log(objective: Objective) -> bool:
    """Whether values are drawn on a logarithmic axis: of other measures than FID they may be zero or below."""
    return objective.is_fid


def value_axis(axes: Axes, values: Sequence[float], objective: Objective) -> None:
    """Gives the y axis limits around these values and a margin; of FID it is logarithmic."""
    lowest, highest = min(values), max(values)
    axes.set_ylabel(objective.label)
    if not is_log(objective):
        margin = max((highest - lowest) * 0.06, abs(highest) * 0.03, 1e-9)
        axes.set_ylim(lowest - margin, highest + margin)
        return
    margin = max((highest / lowest) ** 0.06, 1.03)
    low, high = lowest / margin, highest * margin
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    mark_log_axis(axes.yaxis, low, high)


def mark_log_axis(axis: Axis, low: float, high: float) -> None:
    """Gives a logarithmic axis from `low` to `high` three to six ticks."""
    axis.set_major_locator(FixedLocator(log_ticks(low, high)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers in a logarithmic range: powers of ten if at least three fit, otherwise finer steps."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for parts in ((1,), (1, 3), (1, 2, 5)):
        ticks = [part * 10.0**power for power in decades for part in parts]
        inside = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(inside) >= 3:
            return inside[:: math.ceil(len(inside) / 6)]
    return [float(tick) for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high]


def plain(value: float) -> str:
    """The label of a tick: 0.01, 3e-4, 2000."""
    if 1e-3 <= abs(value) < 1000 or not value:
        return f"{value:.4g}"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    mantissa, _, power = f"{value:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(power)}"


def images_text(value: float) -> str:
    """A number of images: 500, 20k, 1.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def state_handles(states: Sequence[str], colours: dict[str, str] | None = None) -> list[Line2D]:
    """Legend entries for the markers of trial states."""
    shown = [(state, marker) for state, marker in MARKERS.items() if state in states]
    return [handle(state, (colours or {}).get(state, "#666666"), marker) for state, marker in shown]


def family_handles(colours: dict[str, str]) -> list[Line2D]:
    """Legend entries for the colours of families."""
    return [handle(name, colour, "o") for name, colour in colours.items()]


def handle(label: str, colour: str, marker: str) -> Line2D:
    """A legend entry of a marker without a line."""
    return Line2D([], [], color=colour, marker=marker, linestyle="", label=label)


@dataclass(frozen=True)
class Scale:
    """Maps the values of a setting to an axis from 0 to 1."""

    domain: Domain
    low: float
    high: float

    @staticmethod
    def of(domain: Domain, values: Sequence[Any]) -> Scale:
        """The scale of a domain, widened to these values: start points may be outside the domain."""
        if isinstance(domain, Choice):
            tried = [value for value in dict.fromkeys(values) if value not in domain.values]
            return Scale(Choice((*domain.values, *tried)), 0.0, 1.0)
        return Scale(domain, min([domain.low, *values]), max([domain.high, *values]))

    def place(self, value: Any) -> float:
        """The position of a value, from 0 to 1."""
        if isinstance(self.domain, Choice):
            return (self.domain.values.index(value) + 0.5) / len(self.domain.values)
        if self.high == self.low:
            return 0.5
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return float((value - self.low) / (self.high - self.low))

    @property
    def log(self) -> bool:
        """Whether the axis is logarithmic. It is not if a value is zero."""
        return isinstance(self.domain, Range) and self.domain.log and self.low > 0

    def ticks(self) -> list[tuple[float, str]]:
        """Positions of ticks with their labels."""
        if isinstance(self.domain, Choice):
            return [(self.place(value), str(value)) for value in self.domain.values]
        if self.high == self.low:
            return [(0.5, plain(self.low))]
        if self.log:
            found = log_ticks(self.low, self.high)
        else:
            marks = MaxNLocator(4, integer=isinstance(self.domain, Whole)).tick_values(self.low, self.high)
            found = [float(one) for one in marks if self.low <= one <= self.high]
        return [(self.place(one), plain(one)) for one in found]
