"""Datasets by name, each a tensor source that can live whole on the device. Nothing is fetched."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.experiment import Data
from gan_core.recipe import Shape
from gan_core.streams import seeded


@dataclass(frozen=True)
class Modes:
    """The Gaussians of a mixture: their centres (K, D) and common deviation."""

    centres: Tensor
    sigma: float


@dataclass(frozen=True)
class Dataset:
    """A train set in memory: `images` (M, *shape), images in [-1, 1], and `labels` (M,), int64."""

    name: str
    images: Tensor
    labels: Tensor
    classes: int
    modes: Modes | None = None
    """Where the samples lie, if the data is a mixture."""
    held_out: Tensor | None = None
    """Real samples (H, *shape) that are never trained on, and their labels (H,); None if nothing is withheld."""
    held_out_labels: Tensor | None = None

    @property
    def shape(self) -> Shape:
        """One sample's shape, (C, H, W) or (D,)."""
        return tuple(self.images.shape[1:])

    @property
    def pictured(self) -> bool:
        """Whether samples are images rather than points."""
        return self.images.dim() == 4

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Dataset:
        """The same set on a device; images take `dtype`."""
        return replace(
            self,
            images=self.images.to(device, dtype),
            labels=self.labels.to(device),
            held_out=None if self.held_out is None else self.held_out.to(device, dtype),
            held_out_labels=None if self.held_out_labels is None else self.held_out_labels.to(device),
        )

    def digest(self) -> str:
        """sha256 of the train set as the game sees it: pixels after preprocessing, and labels."""
        content = hashlib.sha256(repr((self.name, self.shape, self.classes)).encode())
        content.update(self.images.float().cpu().contiguous().numpy().tobytes())
        content.update(self.labels.cpu().numpy().tobytes())
        return content.hexdigest()


def load(settings: Data) -> Dataset:
    """The dataset of those settings, on the CPU in float32.

    `settings.held_out` withholds that share, the same samples for every seed of a run: of images a random choice,
    of a mixture fresh samples, so that its train set stays whole.
    """
    found = _LOADERS[settings.name](settings)
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


def _digits(settings: Data) -> Dataset:
    """The 1,797 8x8 handwritten digits that scikit-learn ships (Alpaydin & Kaynak 1998), resized bilinearly."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float().reshape(-1, 1, 8, 8) / 8 - 1  # 0..16 -> [-1, 1]
    size = settings.image_size
    if size != 8:
        images = F.interpolate(images, (size, size), mode="bilinear", align_corners=False)
    return Dataset("digits", images, torch.from_numpy(labels).long(), classes=10)


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
    """`count` samples (count, D), as many of each mode as of another, and their modes (count,)."""
    labels = torch.arange(count) * len(modes.centres) // count
    noise = torch.randn(count, modes.centres.shape[1], generator=seeded("cpu", *key))
    return modes.centres[labels] + modes.sigma * noise, labels


_LOADERS: dict[str, Callable[[Data], Dataset]] = {
    "digits": _digits,
    "ring8": _ring8,
    "grid25": _grid25,
}
