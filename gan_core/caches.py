"""The cache folder, which all runs of this machine share. What it holds can be made or fetched again."""

from __future__ import annotations

import os
from pathlib import Path

from gan_core.settings import SettingsError


def cache_folder() -> Path:
    """`$GANFLEET_CACHE`, by default ~/.cache/ganfleet. Raises SettingsError if the user has no home folder for it."""
    given = os.environ.get("GANFLEET_CACHE")
    if given:
        return Path(given)
    home = Path(os.path.expanduser("~"))
    folder = home / ".cache" / "ganfleet"
    if not home.is_absolute():
        raise SettingsError("there is no home folder for the cache", nearest="GANFLEET_CACHE=FOLDER")
    if not folder.exists() and not os.access(home, os.W_OK):
        raise SettingsError(f"the home folder {home} cannot hold the cache", nearest="GANFLEET_CACHE=FOLDER")
    return folder


def expanded(path: str | Path) -> Path:
    """The path with the home folder for `~`. Raises SettingsError if there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise SettingsError(f"{path}: there is no such home folder", nearest="a path without ~") from None
