"""From the arguments of a call in Python to the words of a command line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gan_core.family import Family, family_class
from gan_core.settings import SettingsError, place_of
from infra.passwords import remember
from pipelines.launch import CommandLine
from pipelines.library._notebook import screen
from pipelines.settings import CommonSettings, storage_words

FamilyLike = str | type[Family] | Family
"""A family by its name or place (`package.module:Class`), its class, or with its fields."""


def command_line(
    given: Iterable[Any],
    settings: Mapping[str, Any] | None = None,
    data: Any = None,
    config: str | Path | None = None,
    resume: str | None = None,
    from_search: str | None = None,
    init_from: str | None = None,
) -> CommandLine:
    """The command line that asks for the same. `given`: families, and words as they are typed. Raises SettingsError.

    Data that are no name are written to the storage.
    """
    families, words = _sorted(given)
    settings = dict(settings or {})
    named = settings.pop("family.name", None)
    if named is not None and not families:
        families = [named]
    words += words_of(settings)
    if data is not None:
        words += _data_words(data, words)
    for word in words:
        remember(word)
    line = CommandLine.of(words, None if config is None else Path(config), resume, from_search, init_from)
    return CommandLine(families, line.assignments, line.config, resume, from_search, init_from)


def written(verb: str, line: CommandLine) -> str:
    """A command line as one types it."""
    options = {"config": line.config, "resume": line.resume, "from-search": line.from_search}
    options["init-from"] = line.init_from
    flags = [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    return " ".join(["ganfleet", verb, *line.names, *flags, *line.assignments])


def words_of(settings: Mapping[str, Any]) -> list[str]:
    """Settings by dotted paths as words. An object becomes its place, `package.module:Name`."""
    return [f"{key}={_text(value)}" for key, value in settings.items()]


def _sorted(given: Iterable[Any]) -> tuple[list[str | Family], list[str]]:
    """Families, and words with `=`, each in their order."""
    families: list[str | Family] = []
    words: list[str] = []
    for one in given:
        if isinstance(one, str):
            (words if "=" in one else families).append(one)
        elif isinstance(one, Family):
            _name(type(one))
            families.append(one)
        elif isinstance(one, type) and issubclass(one, Family):
            families.append(_name(one))
        elif isinstance(one, list | tuple):
            more, further = _sorted(one)
            families, words = [*families, *more], [*words, *further]
        elif one is not None:
            raise SettingsError(f"{one!r} is no family", nearest="a name, a class, or 'package.module:Class'")
    return families, words


def _name(family: type[Family]) -> str:
    """The name of a class. One that Python cannot import gets a name by which its processes find it."""
    if family is Family:
        raise SettingsError("Family is the base of families", nearest="a subclass of it with its recipe()")
    try:
        if family_class(family.name) is family:
            return family.name
    except SettingsError:
        pass
    family.name = place_of(family)
    return family.name


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str | int | float | Path):
        return str(value)
    if isinstance(value, Mapping | list | tuple):
        return yaml.safe_dump(_plain(value), default_flow_style=True, sort_keys=False, width=math.inf).strip()
    if hasattr(value, "item"):  # of NumPy or torch
        return str(value.item())
    return place_of(value)


def _plain(value: Any) -> Any:
    """Mappings and sequences as YAML knows them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else _text(value)


def _data_words(data: Any, words: Sequence[str]) -> list[str]:
    """The settings of data that have a name, a place (`package.module:load`), or are images in memory."""
    named = [word for word in words if word.startswith(("data=", "data.name="))]
    if named:
        raise SettingsError(f"{named[0]} and data=... are both given", nearest="one of them")
    if isinstance(data, str):
        return [f"data={data}"]
    from pipelines.data.given import given_data

    sizes = [word.partition("=")[2] for word in words if word.startswith("data.image_size=")]
    storage = CommonSettings().override(*storage_words(words)).storage
    found = given_data(data, storage, screen(), sizes[-1] if sizes else None)
    return words_of({key: value for key, value in found.items() if not (sizes and key == "data.image_size")})
