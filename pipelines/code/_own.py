"""Which modules outside of ours an experiment needs, and where they are imported from here."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gan_core.settings import IMPORT_PATH, Settings, installed, kept_in

_SECTIONS = ("family", "families", "metrics", "search")
"""Those that the process of a worker imports modules for."""


def own_modules(experiment: Settings) -> set[str]:
    """The modules and packages that the settings name by `package.module:Name`, or by an entry point. Objects that
    travel with the settings are left out."""
    values = experiment.model_dump(mode="json")
    objects = kept_in(values)
    points = {**installed("families"), **installed("nets")}
    texts = [points.get(text, text) for section in _SECTIONS for text in _texts(values.get(section))]
    places = [text for text in texts if IMPORT_PATH.fullmatch(text) and text not in objects]
    return {place.partition(":")[0].partition(".")[0] for place in places} - {"__main__"}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def folder_of(module: str) -> Path | None:
    """The folder that a module or package is imported from; None if a package manager put it there."""
    spec = importlib.util.find_spec(module)
    places = [] if spec is None else [*(spec.submodule_search_locations or []), *([spec.origin] if spec.origin else [])]
    folder = Path(places[0]).parent if places else None
    return None if folder is None or folder.name in ("site-packages", "dist-packages") else folder
