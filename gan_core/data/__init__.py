"""Datasets by name, each small enough to be on the device as a whole. Nothing is downloaded unless asked for.

This module does not import torch, so that the command line can read a pack's `manifest` without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan_core.data.dataset import Dataset
    from gan_core.experiment import Data
    from gan_core.files import Bars

__all__ = ["load"]


def load(settings: Data, cache: Path | None = None, bars: Bars | None = None) -> Dataset:
    """The dataset of those settings, on the CPU: see `gan_core.data.loading.load`, which needs torch."""
    from gan_core.data.loading import load
    from gan_core.files import no_bars

    return load(settings, cache, bars or no_bars)
