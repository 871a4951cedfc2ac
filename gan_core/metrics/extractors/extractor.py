"""Extractors turn images into features. Name and weights' digest of the extractor are reported with each FID."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

_SOURCES = (
    *("metrics/extractors/extractor", "metrics/extractors/classifier", "metrics/extractors/inception"),
    "metrics/extractors/dinov2",
    *("metrics/statistics/tally", "metrics/statistics/moments", "data/image_files", "data/sets/stacked"),
)

_SLACK = 1e-3
"""How far values may exceed [-1, 1], by rounding or resampling."""

CODE = hashlib.sha256(
    b"".join((Path(__file__).parents[2] / f"{name}.py").read_bytes() for name in _SOURCES)
).hexdigest()
"""Digest of the files that define features. Cached reference statistics depend on it, so they are never stale."""


def quantised(images: Tensor) -> Tensor:
    """Images as a PNG would store them: clamped to [-1, 1] and rounded to 256 levels."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


class FeatureNet(nn.Module):
    """Base of all networks that turn images into features.

    For your own, write a subclass and set `metrics.extractor=package.module:Class`. Its constructor takes no arguments;
    `metrics.weights` is a file of its state dict.
    """

    name: str
    """Reported with each FID, as are the next two."""
    resize: str = "none"
    """How it resizes images, in words."""
    input_range: str = "[-1, 1]"
    """The range of numbers that the network computes with, in words."""
    classes: int | None = None
    """Number of classes of its logits; None: it does not classify, so there is no Inception Score."""
    small: bool = False
    """Whether one core computes a batch of it about as fast as several do together."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N, *shape), images in [-1, 1] -> features (N, D) and logits (N, classes) or None."""
        raise NotImplementedError


class PixelFeatures(FeatureNet):
    """The samples themselves as features: right for points, a weak measure for images."""

    name = "pixels"

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        return images.flatten(1), None


@dataclass(frozen=True)
class Extractor:
    """A feature network on its device, and its digest."""

    net: FeatureNet
    digest: str = ""
    """sha256 of the weights: of the tensors, or of the published file."""
    quantise: bool = True
    """Whether images are rounded to 256 levels first, as for published FIDs."""
    accuracy: float | None = None
    """A classifier's accuracy on held-out images."""
    device: torch.device | str = "cpu"
    """The net's device; images are moved to it."""

    def __post_init__(self) -> None:
        if not self.digest:
            object.__setattr__(self, "digest", tensors_digest(self.net.state_dict()))

    def features(self, images: Tensor) -> Tensor:
        """(N, *shape) -> (N, D); see `__call__`."""
        return self(images)[0]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Images (N, C, H, W), uint8 or in [-1, 1], or points (N, D) -> features (N, D), and logits if it classifies.

        Raises ValueError for images with values out of range or NaN.
        """
        images = images.to(self.device)
        if images.dtype == torch.uint8:
            images = images.float() / 127.5 - 1
        elif images.dim() == 4:
            images = self._checked(images.float())
        return self.net(images.float())

    def _checked(self, images: Tensor) -> Tensor:
        low, high = (float(bound) for bound in images.aminmax())
        if not (low >= -1 - _SLACK and high <= 1 + _SLACK):  # true for NaN, too
            raise ValueError(f"images range from {low:.4g} to {high:.4g}; wanted: [-1, 1], or uint8 0 to 255")
        return quantised(images) if self.quantise else images

    @property
    def core_each(self) -> bool:
        """Whether real images are measured fastest if each core takes a batch of its own."""
        return self.net.small and torch.device(self.device).type == "cpu"

    def about(self) -> dict[str, str]:
        """What to report with each measure."""
        return {
            "extractor": self.net.name,
            "weights": self.digest[:16],
            "resize": self.net.resize,
            "input_range": self.net.input_range + (", of 256 levels" if self.quantise else ""),
            **({} if self.accuracy is None else {"accuracy": f"{self.accuracy:.4f}"}),
        }

    def to(self, device: torch.device | str) -> Extractor:
        """The same on a device."""
        return replace(self, net=self.net.to(device), device=device)


def tensors_digest(tensors: dict[str, Tensor]) -> str:
    """sha256 of the tensors' names, shapes, types and bytes."""
    content = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        content.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        content.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch computes with one thread.

    How a sum is split over threads decides its last bits. Threads of small layers mostly wait for each other, and where
    cores are busy two cost ten times as much as one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cores() -> int:
    """How many batches a CPU measures at once: one a core, and 8 at most, because each takes memory."""
    return min(len(os.sched_getaffinity(0)), 8)
