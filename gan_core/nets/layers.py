"""What several nets are made of, and the image sizes that the convolutional ones make."""

from __future__ import annotations

import math

from torch import Tensor, nn

from gan_core.recipe import Shape

SIDES = (8, 16, 28, 32, 64, 128, 256)
"""Sides of the square images that the convolutional nets make and see, in pixels."""


class Score(nn.Module):
    """(N, 1, ...) -> (N,)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten()


def halvings(shape: Shape, largest: int) -> tuple[int, int]:
    """How often images (C, H, W) are halved until their side is at most `largest`, and that side.

    Raises ValueError for what is not a square image with a side of SIDES.
    """
    if len(shape) != 3:
        raise ValueError(f"shape={shape} is not that of images (C, H, W), which convolutions need; nearest: an MLP")
    channels, height, width = shape
    if height != width or height not in SIDES:
        right = min(SIDES, key=lambda side: abs(side - math.sqrt(height * width)))
        raise ValueError(
            f"shape={shape} is not square with a side of {', '.join(map(str, SIDES))}; "
            f"nearest: {(channels, right, right)}"
        )
    count = 0
    while height > largest:
        height //= 2
        count += 1
    return count, height
