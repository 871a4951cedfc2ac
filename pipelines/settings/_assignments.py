"""The words of a command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from gan_core.settings import Settings, SettingsError, paths, similar

Model = TypeVar("Model", bound=Settings)


def split_words(words: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Names and `key=value` settings, each in their order."""
    words = list(words or [])
    return [word for word in words if "=" not in word], [word for word in words if "=" in word]


def storage_words(assignments: Sequence[str]) -> list[str]:
    """Those of the settings that say where runs are kept."""
    return [word for word in assignments if word.startswith(("storage.path=", "storage.endpoint_url="))]


def restricted_settings(model: type[Model], assignments: Sequence[str] | None, *sections: str) -> Model:
    """The settings of a command that takes only some sections of a tree. Raises SettingsError."""
    known = [path for path in paths(model) if path.split(".")[0] in sections]
    for word in assignments or []:
        key, equals, value = word.partition("=")
        if key not in known:
            found = similar(key, known)
            right = "leave it out" if found is None else f"{found}={value if equals else '...'}"
            raise SettingsError(f"unknown setting '{word}'", nearest=right)
    return model().override(*(assignments or []))


def expand_shorthands(assignments: Sequence[str]) -> list[str]:
    """`data=NAME` is short for `data.name=NAME`, `data=s3://...` for the pack at that address."""
    expanded = []
    for word in assignments:
        key, _, value = word.partition("=")
        if key != "data":
            expanded.append(word)
        elif value.startswith("s3://"):
            expanded += ["data.name=packed", f"data.path={value}"]
        else:
            expanded.append(f"data.name={value}")
    return expanded
