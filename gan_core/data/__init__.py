"""Datasets by name, each a tensor source that can live whole on the device. Nothing is fetched unasked.

This module does not import torch: the command line reads a pack's `manifest` without it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan_core.data.dataset import Dataset
    from gan_core.experiment import Data

__all__ = ["load"]


def load(settings: Data, cache: Path | None = None) -> Dataset:
    """`gan_core.data.loading.load`."""
    from gan_core.data.loading import load

    return load(settings, cache)
