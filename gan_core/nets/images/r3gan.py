"""R3GAN's networks: residual networks without any normalisation. Huang et al. 2024, arXiv:2501.05441, section 4;
github.com/brownvc/R3GAN, R3GAN/Networks.py.

A stage is two blocks at one size: 1x1 to twice the channels, grouped 3x3, 1x1 back, LeakyReLU(0.2) between. The first
two have biases, no other layer has. Weights are N(0, gain^2 / inputs). A block's last layer starts at zero, so each
block starts as the identity. The gain of its other two is that of LeakyReLU times blocks^(-1/4), by the number of the
network's blocks (Zhang et al. 2019, arXiv:1901.09321).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from gan_core.nets.layers import Clamped, Score, halvings
from gan_core.nets.resampling import downsampled, upsampled
from gan_core.recipe import Shape

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)

_BLOCKS = 2
"""Blocks of a stage."""
_EXPANSION = 2
_GROUP = 16
"""Channels of a group of the 3x3 convolution, if the width can be shared so."""
_LEAKY_GAIN = math.sqrt(2 / (1 + 0.2**2))
"""Keeps the variance through LeakyReLU(0.2). He et al. 2015, equation 15."""


def _normal(layer: Layer, gain: float = 1.0) -> Layer:
    """The layer with weights N(0, gain^2 / inputs), where a kernel's area counts, and zero bias."""
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class _Block(nn.Sequential):
    """x plus three convolutions of it."""

    def __init__(self, channels: int, gain: float) -> None:
        wide = _EXPANSION * channels
        groups = math.gcd(wide, max(wide // _GROUP, 1))
        super().__init__(
            _normal(nn.Conv2d(channels, wide, 1), gain),
            nn.LeakyReLU(0.2),
            _normal(nn.Conv2d(wide, wide, 3, padding=1, groups=groups), gain),
            nn.LeakyReLU(0.2),
            _normal(nn.Conv2d(wide, channels, 1, bias=False), 0.0),
        )

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        return x + super().forward(x)


class _Doubled(nn.Module):
    """(N, C, H, W) -> (N, C, 2H, 2W), interpolated."""

    def forward(self, x: Tensor) -> Tensor:
        return upsampled(x)


class _Halved(nn.Module):
    """(N, C, H, W) -> (N, C, H/2, W/2), filtered."""

    def forward(self, x: Tensor) -> Tensor:
        return downsampled(x)


class _Basis(nn.Module):
    """z (N, latent) -> (N, C, H, W): a learnt map of each channel times a linear function of z."""

    def __init__(self, latent: int, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.maps = nn.Parameter(torch.randn(channels, *size))
        self.scale = _normal(nn.Linear(latent, channels, bias=False))

    def forward(self, z: Tensor) -> Tensor:
        return self.maps * self.scale(z)[:, :, None, None]


def _resized(inputs: int, outputs: int) -> list[nn.Module]:
    """A 1x1 convolution between stages, none if they have the same channels."""
    return [] if inputs == outputs else [_normal(nn.Conv2d(inputs, outputs, 1, bias=False))]


def _stages(shape: Shape, width: int) -> tuple[list[int], tuple[int, int], float]:
    """The channels of each stage from the smallest map up, that map's height and width, and the gain of the blocks.

    All stages up to 32x32 have the same channels, and each doubling beyond halves them, down to `width`.
    """
    doublings, size = halvings(shape, largest=7)
    channels = [width * 2 ** max(doublings - max(stage, 3), 0) for stage in range(doublings + 1)]
    return channels, size, _LEAKY_GAIN * (_BLOCKS * len(channels)) ** -0.25


def r3gan_generator(latent: int, shape: Shape, width: int) -> nn.Module:
    """Learnt 4x4 (7x7) maps scaled by z, a stage at each size, a 1x1 convolution.

    There is no tanh: images are clamped to [-1, 1] when they are sampled, not in training.
    `width`: channels next to the image. Published: 768 for 32x32, 384 for 64x64, 96 for 256x256.
    """
    channels, size, gain = _stages(shape, width)
    layers: list[nn.Module] = [_Basis(latent, channels[0], size)]
    for inputs, outputs in pairwise([channels[0], *channels]):
        if len(layers) > 1:
            layers += [*_resized(inputs, outputs), _Doubled()]
        layers += [_Block(outputs, gain) for _ in range(_BLOCKS)]
    return nn.Sequential(*layers, _normal(nn.Conv2d(width, shape[0], 1, bias=False)), Clamped())


def r3gan_critic(shape: Shape, width: int) -> nn.Module:
    """A 1x1 convolution, a stage at each size down to 4x4 (7x7), a convolution of each channel alone to 1x1, a linear
    score. `width`: as in the generator."""
    channels, size, gain = _stages(shape, width)
    channels.reverse()
    layers: list[nn.Module] = [_normal(nn.Conv2d(shape[0], width, 1, bias=False))]
    for place, (inputs, outputs) in enumerate(pairwise([*channels, channels[-1]])):
        layers += [_Block(inputs, gain) for _ in range(_BLOCKS)]
        layers += [_Halved(), *_resized(inputs, outputs)] if place < len(channels) - 1 else []
    last = channels[-1]
    return nn.Sequential(
        *layers,
        _normal(nn.Conv2d(last, last, size, groups=last, bias=False)),
        nn.Flatten(),
        _normal(nn.Linear(last, 1, bias=False)),
        Score(),
    )
