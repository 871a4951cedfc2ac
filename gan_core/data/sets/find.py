"""Finds the source of images that the settings name."""

from __future__ import annotations

from pathlib import Path

from gan_core.data.sets.stacked import STACKED
from gan_core.data.sets.torchvision_sets import TORCHVISION_SETS
from gan_core.data.sources import SOURCES, ImageSource
from gan_core.experiment import Data


def find_source(settings: Data, cache: Path) -> ImageSource:
    """The source that the settings name, found but not read. Raises SettingsError if files are missing."""
    known = {**SOURCES, **TORCHVISION_SETS, **STACKED}
    return known[settings.name](settings, Path(settings.path or cache / "downloads"))
