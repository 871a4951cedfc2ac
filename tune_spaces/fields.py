"""The values that a field accepts, a family's or another setting's, read from its declaration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Le

from gan_core.family import Words
from gan_core.settings import Settings


@dataclass(frozen=True)
class FieldRange:
    """The kind of a field's values, and their bounds (both included) or the words to choose from."""

    kind: Literal["number", "whole", "words", "switch", "other"]
    default: Any
    low: float = float("-inf")
    high: float = float("inf")
    words: tuple[str, ...] = ()
    joined: bool = False
    """Whether several words may be joined by +."""

    def __contains__(self, value: object) -> bool:
        if self.kind == "words":
            return value in Words(self.words, self.joined)
        if self.kind == "switch":
            return isinstance(value, bool)
        right = isinstance(value, int) if self.kind == "whole" else isinstance(value, int | float)
        return right and self.low <= value <= self.high  # type: ignore[operator]

    def __str__(self) -> str:
        if self.kind == "words":
            return f"one of {', '.join(self.words)}{', or several joined by +' if self.joined else ''}"
        if self.kind == "switch":
            return "true or false"
        return f"{'whole numbers ' if self.kind == 'whole' else ''}from {self.low:g} to {self.high:g}"


def field_range(section: type[Settings], name: str) -> FieldRange:
    """The range of a field of a family or section; kind `other` if its values can be neither drawn nor listed."""
    field = section.model_fields[name]
    if get_origin(field.annotation) is Literal:
        return FieldRange("words", field.default, words=get_args(field.annotation))
    words = next((one for one in field.metadata if isinstance(one, Words)), None)
    if words is not None:
        return FieldRange("words", field.default, words=words.known, joined=words.joined)
    if field.annotation is bool:
        return FieldRange("switch", field.default)
    if field.annotation not in (int, float):
        return FieldRange("other", field.default)
    low = max([float(one.ge) for one in field.metadata if isinstance(one, Ge)], default=float("-inf"))  # type: ignore[arg-type]
    high = min([float(one.le) for one in field.metadata if isinstance(one, Le)], default=float("inf"))  # type: ignore[arg-type]
    return FieldRange("whole" if field.annotation is int else "number", field.default, low, high)
