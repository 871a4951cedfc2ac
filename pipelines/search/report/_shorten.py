"""A trial's settings shortened to a given width."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.search._outcome import short


@dataclass(frozen=True)
class Shortening:
    """How settings are shortened: each field's short name, and the significant digits of a float."""

    names: Mapping[str, str]
    digits: int
    family: bool
    """Whether a line begins with the family's name."""

    def line(self, settings: Mapping[str, Any]) -> str:
        """`wgan_gp lr=3e-4 b1=.5`."""
        fields = [f"{self.names[name]}={self._value(value)}" for name, value in settings.items() if name != "name"]
        return " ".join([*([settings["name"]] if self.family or not fields else []), *fields])

    @property
    def legend(self) -> str:
        """The full names of shortened fields; empty if none is shortened."""
        return ", ".join(f"{brief}: {name}" for name, brief in self.names.items() if brief != name)

    def _value(self, value: Any) -> str:
        if not isinstance(value, float) or self.digits > 2:
            return short(value)
        if abs(value) >= 10:
            return f"{value:.0f}"
        if abs(value) >= 1e-3 or not value:
            return re.sub(r"^(-?)0\.", r"\1.", f"{float(f'{value:.{self.digits}g}'):g}")
        return re.sub(r"e-0?", "e-", re.sub(r"\.0e", "e", f"{value:.{self.digits - 1}e}"))


def fitting(settings: Sequence[Mapping[str, Any]], width: int) -> Shortening:
    """The longest form in which all settings fit into `width` characters; the shortest one if none does."""
    names = list(dict.fromkeys(name for one in settings for name in one if name != "name"))
    same_family = len({one["name"] for one in settings}) == 1
    full = {name: name for name in names}
    ways = [
        Shortening(full, 3, family=True),
        Shortening(full, 2, family=not same_family),
        Shortening(_brief(names), 2, family=not same_family),
        Shortening(_brief(names), 1, family=not same_family),
    ]
    return next((way for way in ways if all(len(way.line(one)) <= width for one in settings)), ways[-1])


def _brief(names: Sequence[str]) -> dict[str, str]:
    """`n_critic` as nc, `beta1` as b1. A name of up to four letters stays, and so do names with equal short names."""
    brief = {name: name if len(name) <= 4 else _initials(name) for name in names}
    return {name: one if list(brief.values()).count(one) == 1 else name for name, one in brief.items()}


def _initials(name: str) -> str:
    return "".join(part[0] for part in name.split("_")) + "".join(re.findall(r"\d+$", name))
