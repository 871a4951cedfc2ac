"""Layers that several networks share, and the image sizes that convolutional networks take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.recipe import Shape
from gan_core.settings import SettingsError
from gan_core.settings.image_size import LARGEST_SIDE, SMALLEST_SIDE, written_size

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class Score(nn.Module):
    """(N, 1, ...) -> (N,)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten()


class Clamped(nn.Module):
    """Images clamped to [-1, 1] where they are sampled, and left as they are in training, so that the gradient flows.
    The end of a generator without tanh."""

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else x.clamp(-1, 1)


class SpatialSum(nn.Module):
    """(N, C, H, W) -> (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(dim=(2, 3))


class Upsampled(nn.Conv2d):
    """Nearest-neighbour upsampling by 2 and a 3x3 convolution, computed as one transposed 4x4 convolution.

    The sums are the same, with 4/9 of the products.
    """

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        kernel = F.pad(self.weight.flip(2, 3), (1, 1, 1, 1))
        kernel = 4 * F.avg_pool2d(kernel, 2, stride=1)  # (out, in, 4, 4)
        return F.conv_transpose2d(x, kernel.transpose(0, 1), self.bias, stride=2, padding=1)  # (N, out, 2H, 2W)


class MeanPooled(nn.Conv2d):
    """A 3x3 convolution and 2x2 mean pooling, computed as one strided 4x4 convolution."""

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        kernel = F.avg_pool2d(F.pad(self.weight, (1, 1, 1, 1)), 2, stride=1)  # (out, in, 4, 4)
        return F.conv2d(x, kernel, self.bias, stride=2, padding=1)  # (N, out, H/2, W/2)


def halvings(shape: Shape, largest: int, least: int = 0) -> tuple[int, tuple[int, int]]:
    """How often images (C, H, W) are halved until their shorter side is at most `largest`, at least `least` times, and
    the height and width that this leaves.

    Raises SettingsError, with the nearest size, for images that cannot be halved so often or have a side outside of 8
    to 512, and ValueError for points.
    """
    if len(shape) != 3:
        raise ValueError(f"shape={shape} is not that of images (C, H, W), which convolutions need; nearest: an MLP")
    size = shape[1:]
    found = _halved(size, largest, least)
    if found is None:
        until = f"until a side is at most {largest}" if largest < LARGEST_SIDE else f"{least} times"
        raise SettingsError(
            f"images of {size[0]}x{size[1]} cannot be halved {until}",
            nearest=f"data.image_size={written_size(*_nearest_size(size, largest, least))}",
        )
    return found


def _halved(size: Sequence[int], largest: int, least: int) -> tuple[int, tuple[int, int]] | None:
    (height, width), count = size, 0
    if min(size) < SMALLEST_SIDE or max(size) > LARGEST_SIDE:
        return None
    while min(height, width) > largest or count < least:
        if height % 2 or width % 2:
            return None
        height, width, count = height // 2, width // 2, count + 1
    return count, (height, width)


def _nearest_size(size: Sequence[int], largest: int, least: int) -> tuple[int, int]:
    def near(side: int, unit: int) -> list[int]:
        """Multiples of `unit` around a side."""
        below = min(max(side, SMALLEST_SIDE), LARGEST_SIDE) // unit * unit
        return [below, below + unit, unit * largest]

    units = [2**count for count in range(LARGEST_SIDE.bit_length())]
    found = [(high, wide) for unit in units for high in near(size[0], unit) for wide in near(size[1], unit)]
    possible = [one for one in found if _halved(one, largest, least) is not None]
    return min(possible, key=lambda one: (abs(one[0] - size[0]) + abs(one[1] - size[1]), one))


def glorot(layer: Layer, gain: float = 1.0) -> Layer:
    """The layer with weights uniform as in Glorot & Bengio 2010, times `gain`, and zero bias.

    The variance is 2 gain^2 / (inputs + outputs), where both are multiplied by the kernel's area.
    """
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
