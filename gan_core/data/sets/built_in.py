"""Datasets that need no files of the user. They are small, so each process makes its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.data.dataset import Dataset, Modes
from gan_core.experiment import Data
from gan_core.streams import seeded


def _digits(settings: Data) -> Dataset:
    """The 1,797 8x8 handwritten digits that scikit-learn ships (Alpaydin & Kaynak 1998), resized bilinearly.

    They are read from its file, because importing scikit-learn takes each process a second or more.
    """
    sklearn = find_spec("sklearn")
    if sklearn is None or sklearn.origin is None:
        raise ModuleNotFoundError("scikit-learn, which ships the digits, is not installed")
    file = Path(sklearn.origin).parent / "datasets" / "data" / "digits.csv.gz"
    rows = torch.from_numpy(np.loadtxt(file, delimiter=","))
    pixels, labels = rows[:, :-1], rows[:, -1]
    images = pixels.float().reshape(-1, 1, 8, 8) / 8 - 1  # 0..16 -> [-1, 1]
    if settings.size != (8, 8):
        images = F.interpolate(images, settings.size, mode="bilinear", align_corners=False)
    return Dataset("digits", images, labels.long(), 10, class_names=tuple("0123456789"))


def _ring8(settings: Data) -> Dataset:
    """8 Gaussians of sigma 0.02 on the unit circle (Metz et al. 2017, section 3.1, scaled)."""
    angles = torch.arange(8) * (2 * math.pi / 8)
    return _mixture(settings, torch.stack([angles.cos(), angles.sin()], dim=1), sigma=0.02)


def _grid25(settings: Data) -> Dataset:
    """25 Gaussians of sigma 0.05 on the 5x5 grid of spacing 2 (Dumoulin et al. 2017), divided by 2.8."""
    line = torch.arange(-4.0, 5.0, 2.0)
    return _mixture(settings, torch.cartesian_prod(line, line) / 2.828, sigma=0.05 / 2.828)


def _mixture(settings: Data, centres: Tensor, sigma: float, per_mode: int = 1000) -> Dataset:
    modes, count = Modes(centres, sigma), len(centres) * per_mode
    images, labels = _samples(modes, count, settings.name)
    whole = Dataset(settings.name, images, labels, len(centres), modes)
    if settings.held_out == 0:
        return whole
    fresh, of_mode = _samples(modes, max(round(settings.held_out * count), 1), settings.name, "held out")
    return replace(whole, held_out=fresh, held_out_labels=of_mode)


def _samples(modes: Modes, count: int, *key: object) -> tuple[Tensor, Tensor]:
    """`count` samples (count, D), equally many of each mode, and their modes (count,)."""
    labels = torch.arange(count) * len(modes.centres) // count
    noise = torch.randn(count, modes.centres.shape[1], generator=seeded("cpu", *key))
    return modes.centres[labels] + modes.sigma * noise, labels


BUILT_IN: dict[str, Callable[[Data], Dataset]] = {
    "digits": _digits,
    "ring8": _ring8,
    "grid25": _grid25,
}
