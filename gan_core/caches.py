"""The cache folder, which all runs of this machine share. What it holds can be made or fetched again."""

from __future__ import annotations

import os
from pathlib import Path

from gan_core.settings import SettingsError


def cache_folder() -> Path:
    """`$GANFLEET_CACHE`, by default ~/.cache/ganfleet. Raises SettingsError if the user has no home folder."""
    given = os.environ.get("GANFLEET_CACHE")
    if given:
        return Path(given)
    try:
        return Path.home() / ".cache" / "ganfleet"
    except RuntimeError:
        raise SettingsError("there is no home folder for the cache", nearest="GANFLEET_CACHE=FOLDER") from None


def expanded(path: str | Path) -> Path:
    """The path with the home folder for `~`. Raises SettingsError if there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise SettingsError(f"{path}: there is no such home folder", nearest="a path without ~") from None
