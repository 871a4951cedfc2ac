"""DCGAN's generator and critic (Radford et al. 2016, arXiv:1511.06434), and the encoder and joint critic of BiGAN
(Donahue et al. 2017, arXiv:1605.09782).

`width` is the number of channels next to the image. It doubles at each halving, until the shorter side is at most 7.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.nets.layers import Score, halvings
from gan_core.nets.norm import GlobalBatchNorm
from gan_core.recipe import Shape


class _Project(nn.Module):
    """(N, latent) -> (N, C, H, W): a transposed convolution of a 1x1 image, computed as a matrix product."""

    def __init__(self, latent: int, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.project = nn.Linear(latent, channels * math.prod(size), bias=False)

    def forward(self, z: Tensor) -> Tensor:  # (N, latent)
        return F.linear(z, self.project.weight).unflatten(1, (-1, *self.size))  # (N, C, H, W)


def dcgan_generator(latent: int, shape: Shape, width: int) -> nn.Module:
    """Transposed 4x4 convolutions from 4x4 up, BatchNorm except on the output, ReLU, tanh. Radford et al. 2016."""
    levels, size = halvings(shape, largest=7)
    channels = [width * 2**level for level in reversed(range(levels))]
    layers: list[nn.Module] = [_Project(latent, channels[0], size), GlobalBatchNorm(channels[0]), nn.ReLU()]
    for wide, narrow in pairwise(channels):
        layers += [
            nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False),
            GlobalBatchNorm(narrow),
            nn.ReLU(),
        ]
    layers += [nn.ConvTranspose2d(channels[-1], shape[0], 4, 2, 1), nn.Tanh()]
    return initialised(nn.Sequential(*layers))


def dcgan_critic(shape: Shape, width: int, *, batch_norm: bool, last_bias: bool = True) -> nn.Module:
    """Strided 4x4 convolutions down to 4x4, LeakyReLU(0.2), BatchNorm except on the input. Radford et al. 2016."""
    layers, features = _downwards(shape, width, batch_norm=batch_norm)
    return initialised(nn.Sequential(*layers, nn.Linear(features, 1, bias=last_bias), Score()))


def dcgan_encoder(shape: Shape, latent: int, width: int) -> nn.Module:
    """Images -> z (N, latent), deterministic. Donahue et al. 2017, section 3.

    The critic's convolutions with BatchNorm, and a linear head, because z ~ N(0, I) is unbounded.
    """
    layers, features = _downwards(shape, width, batch_norm=True)
    return initialised(nn.Sequential(*layers, nn.Linear(features, latent)))


class _JointCritic(nn.Module):
    def __init__(self, shape: Shape, latent: int, width: int) -> None:
        super().__init__()
        layers, features = _downwards(shape, width, batch_norm=True)
        self.features = nn.Sequential(*layers)
        self.score = nn.Sequential(
            nn.Linear(features + latent, 16 * width), nn.LeakyReLU(0.2), nn.Linear(16 * width, 1), Score()
        )

    def forward(self, x: Tensor, z: Tensor) -> Tensor:  # (N, C, H, W), (N, latent)
        features = self.features(x)  # (N, features)
        return self.score(torch.cat([features, z.to(features.dtype)], dim=1))  # (N,)


def joint_critic(shape: Shape, latent: int, width: int) -> nn.Module:
    """A critic of pairs: `critic(x, z)` with x (N, *shape) and z (N, latent) gives scores (N,).

    The critic's convolutions with BatchNorm; z is appended to their features. A hidden layer of 16 `width` units
    follows: 1024 at width 64, as in Donahue et al. 2017.
    """
    return initialised(_JointCritic(shape, latent, width))


def _downwards(shape: Shape, width: int, *, batch_norm: bool) -> tuple[list[nn.Module], int]:
    """Layers from images to flat features (N, count), and the count."""
    levels, size = halvings(shape, largest=7)
    channels = [width * 2**level for level in range(levels)]
    layers: list[nn.Module] = [nn.Conv2d(shape[0], width, 4, 2, 1), nn.LeakyReLU(0.2)]
    for narrow, wide in pairwise(channels):
        layers += [nn.Conv2d(narrow, wide, 4, 2, 1, bias=not batch_norm)]
        layers += [GlobalBatchNorm(wide)] if batch_norm else []
        layers += [nn.LeakyReLU(0.2)]
    return [*layers, nn.Flatten()], channels[-1] * math.prod(size)


def initialised(net: nn.Module) -> nn.Module:
    """N(0, 0.02) weights, N(1, 0.02) BatchNorm scales, zero biases. Radford et al. 2016, section 4."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.BatchNorm2d) and (
            module.bias is not None
        ):
            nn.init.zeros_(module.bias)
    return net
