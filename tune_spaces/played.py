"""Which settings a search has played. None is played twice: with the same seed it would be the same run."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from tune_spaces.domains import Space

_FIRST_REACH, _WIDER = 0.02, 1.1
"""Settings are drawn within this share of each domain, then within a larger one."""


class PlayedSettings:
    """The settings that were suggested so far, `{"name": family, field: value}`, and how many are left."""

    def __init__(self, spaces: Mapping[str, Space], seed: int) -> None:
        self._spaces = spaces
        self._random = {name: random.Random(f"{seed}/{name}") for name in spaces}
        self._seen: set[frozenset[tuple[str, Any]]] = set()
        self._left = {name: math.prod(domain.size for domain in space.values()) for name, space in spaces.items()}

    def __contains__(self, settings: Mapping[str, Any]) -> bool:
        return _key(settings) in self._seen

    def add(self, settings: Mapping[str, Any]) -> None:
        """The settings are played."""
        if settings not in self and self._inside(settings):
            self._left[settings["name"]] -= 1
        self._seen.add(_key(settings))

    def left(self, name: str) -> float:
        """How many settings of a family's space were not played; infinity if the space is continuous."""
        return self._left[name]

    def total(self, points: Sequence[Mapping[str, Any]]) -> float:
        """How many settings there are to play: those of all spaces, and the points outside."""
        return sum(self._left.values()) + len({_key(point) for point in points if not self._inside(point)})

    def another(self, name: str, near: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of a family that were not played: as close as there are to `near`, if these are of the family."""
        close, reach = (near, _FIRST_REACH) if near["name"] == name else ({}, 1.0)
        while True:
            drawn = {
                field: domain.draw(self._random[name], close.get(field), reach)
                for field, domain in self._spaces[name].items()
            }
            if {"name": name, **drawn} not in self:
                return {"name": name, **drawn}
            reach = min(reach * _WIDER, 1.0)

    def _inside(self, settings: Mapping[str, Any]) -> bool:
        space = self._spaces[settings["name"]]
        fields = settings.keys() - {"name"}
        return fields == space.keys() and all(settings[field] in domain for field, domain in space.items())


def _key(settings: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    return frozenset(settings.items())
