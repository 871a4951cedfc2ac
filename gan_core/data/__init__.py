"""Datasets by name, each a tensor source that can live whole on the device. Nothing is fetched."""

from __future__ import annotations

from dataclasses import replace

import torch

from gan_core.data.built_in import BUILT_IN
from gan_core.data.dataset import Dataset, Modes
from gan_core.experiment import Data
from gan_core.streams import seeded

__all__ = ["Dataset", "Modes", "load"]


def load(settings: Data) -> Dataset:
    """The dataset of those settings, on the CPU in float32.

    `settings.held_out` withholds that share, the same samples for every seed of a run: of images a random choice,
    of a mixture fresh samples, so that its train set stays whole.
    """
    found = BUILT_IN[settings.name](settings)
    if settings.held_out == 0 or found.held_out is not None:
        return found
    return _withheld(found, max(round(settings.held_out * len(found.images)), 1))


def _withheld(whole: Dataset, count: int) -> Dataset:
    """The set without `count` random samples, which are kept beside it; both in the set's own order."""
    held = torch.zeros(len(whole.images), dtype=torch.bool)
    held[torch.randperm(len(held), generator=seeded("cpu", whole.name, "held out"))[:count]] = True
    return replace(
        whole,
        images=whole.images[~held],
        labels=whole.labels[~held],
        held_out=whole.images[held],
        held_out_labels=whole.labels[held],
    )
