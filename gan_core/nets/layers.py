"""Layers that several networks share, and the image sizes that convolutional networks take."""

from __future__ import annotations

import math
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.recipe import Shape

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)

SIDES = (8, 16, 28, 32, 64, 128, 256)
"""Sides, in pixels, of the square images that convolutional networks take and generate."""


class Score(nn.Module):
    """(N, 1, ...) -> (N,)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten()


class Upsampled(nn.Conv2d):
    """Nearest-neighbour upsampling by 2 and a 3x3 convolution, computed as one transposed 4x4 convolution.

    The sums are the same, with 4/9 of the products.
    """

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        kernel = F.pad(self.weight.flip(2, 3), (1, 1, 1, 1))
        kernel = 4 * F.avg_pool2d(kernel, 2, stride=1)  # (out, in, 4, 4)
        return F.conv_transpose2d(x, kernel.transpose(0, 1), self.bias, stride=2, padding=1)  # (N, out, 2H, 2W)


def side_of(shape: Shape) -> int:
    """The side of square images (C, side, side), one of SIDES. Raises ValueError for other shapes."""
    if len(shape) != 3:
        raise ValueError(f"shape={shape} is not that of images (C, H, W), which convolutions need; nearest: an MLP")
    channels, height, width = shape
    if height != width or height not in SIDES:
        right = min(SIDES, key=lambda side: abs(side - math.sqrt(height * width)))
        raise ValueError(
            f"shape={shape} is not square with a side of {', '.join(map(str, SIDES))}; "
            f"nearest: {(channels, right, right)}"
        )
    return height


def halvings(shape: Shape, largest: int) -> tuple[int, int]:
    """How often images are halved until their side is at most `largest`, and that side.

    Raises ValueError for a shape that convolutions do not take.
    """
    side, count = side_of(shape), 0
    while side > largest:
        side //= 2
        count += 1
    return count, side


def glorot(layer: Layer, gain: float = 1.0) -> Layer:
    """The layer with weights uniform as in Glorot & Bengio 2010, times `gain`, and zero bias.

    The variance is 2 gain^2 / (inputs + outputs), where both are multiplied by the kernel's area.
    """
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
