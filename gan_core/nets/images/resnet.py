"""Residual networks for images: those of WGAN-GP's CIFAR-10 experiment up to 32x32, SNGAN's above.

Gulrajani et al. 2017, arXiv:1704.00028, appendix; Miyato et al. 2018, arXiv:1802.05957, appendix B; from 256x256 on
Brock et al. 2019, arXiv:1809.11096, appendix B. Pre-activation blocks of two 3x3 convolutions, ReLU.

Weights are uniform as in Glorot & Bengio 2010, with twice the variance (He et al. 2015) in a block's 3x3
convolutions; biases are zero. The code of Gulrajani et al. does the same.
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from gan_core.nets.layers import MeanPooled, Score, SpatialSum, Upsampled, glorot, halvings
from gan_core.nets.norm import GlobalBatchNorm
from gan_core.recipe import Shape

_HE = math.sqrt(2)

_GENERATOR = {4: (16, 8, 4, 2, 1), 5: (16, 16, 8, 4, 2, 1), 6: (16, 16, 8, 8, 4, 2, 1), 7: (16, 16, 8, 8, 4, 2, 1, 1)}
"""By number of doublings: channels in units of `width`, of the smallest map and after each block. Up to 3 doublings,
which is 32x32, all have `width`."""

_CRITIC = {
    4: ((1, 2, 4, 8, 16), ()),
    5: ((1, 2, 4, 8, 16), (16,)),
    6: ((1, 2, 4, 8, 8, 16), (16,)),
    7: ((1, 1, 2, 4, 8, 8, 16), (16,)),
}
"""By number of the generator's doublings: channels in units of `width`, after each block that halves the sides, then
after each block that keeps them."""


def _critic_channels(shape: Shape) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """As `_CRITIC`. Up to 3 doublings there are four blocks of `width`, as in the published net of 32x32: those that
    halve the sides, until one is at most 8 and at least once, and those that keep them."""
    doublings, _ = halvings(shape, largest=7)
    if doublings in _CRITIC:
        return _CRITIC[doublings]
    halving, _ = halvings(shape, largest=8, least=1)
    return (1,) * halving, (1,) * (4 - halving)


class _Residual(nn.Module):
    """The sum of two paths."""

    def __init__(self, longer: nn.Module, shorter: nn.Module) -> None:
        super().__init__()
        self.longer = longer
        self.shorter = shorter

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        return self.longer(x) + self.shorter(x)


def _doubling(inputs: int, outputs: int) -> nn.Module:
    """A generator's block. It has no biases: a BatchNorm follows on all paths and removes a channel's constant, so the
    gradient of a bias would be rounding noise, which Adam turns into full steps."""
    longer = nn.Sequential(
        GlobalBatchNorm(inputs),
        nn.ReLU(),
        glorot(Upsampled(inputs, outputs, 3, padding=1, bias=False), _HE),
        GlobalBatchNorm(outputs),
        nn.ReLU(),
        glorot(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), _HE),
    )
    shorter = nn.Sequential(glorot(nn.Conv2d(inputs, outputs, 1, bias=False)), nn.Upsample(scale_factor=2))
    return _Residual(longer, shorter)


def _halving(inputs: int, outputs: int, *, first: bool) -> nn.Module:
    """A critic's block. The first block does not begin with a ReLU, because its input is the image."""
    hidden = outputs if first else inputs
    longer = nn.Sequential(
        nn.Identity() if first else nn.ReLU(),
        glorot(nn.Conv2d(inputs, hidden, 3, padding=1), _HE),
        nn.ReLU(),
        glorot(MeanPooled(hidden, outputs, 3, padding=1), _HE),
    )
    return _Residual(longer, nn.Sequential(nn.AvgPool2d(2), glorot(nn.Conv2d(inputs, outputs, 1))))


def _plain(channels: int) -> nn.Module:
    """A critic's block that keeps size and channels."""
    convolutions = [glorot(nn.Conv2d(channels, channels, 3, padding=1), _HE) for _ in range(2)]
    return _Residual(nn.Sequential(nn.ReLU(), convolutions[0], nn.ReLU(), convolutions[1]), nn.Identity())


class _SpatialMean(nn.Module):
    """(N, C, H, W) -> (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def resnet_generator(latent: int, shape: Shape, width: int) -> nn.Module:
    """A linear map to 4x4 (7x7), a block per doubling, BatchNorm, ReLU, a 3x3 convolution, tanh.

    `width`: channels next to the image. Published: 128 for CIFAR-10 (Gulrajani et al. 2017), 256 in SNGAN and in
    mimicry's WGAN-GP; 64 for 64x64 and more.
    """
    doublings, size = halvings(shape, largest=7)
    channels = [width * times for times in _GENERATOR.get(doublings, (1,) * (doublings + 1))]
    return nn.Sequential(
        glorot(nn.Linear(latent, channels[0] * math.prod(size))),
        nn.Unflatten(1, (channels[0], *size)),
        *(_doubling(inputs, outputs) for inputs, outputs in pairwise(channels)),
        GlobalBatchNorm(width),
        nn.ReLU(),
        glorot(nn.Conv2d(width, shape[0], 3, padding=1)),
        nn.Tanh(),
    )


def resnet_critic(shape: Shape, width: int, *, last_bias: bool = True, summed: bool = False) -> nn.Module:
    """Blocks that halve the side by mean pooling, blocks that keep it, ReLU, the spatial mean, a linear score.

    There is no normalisation, because the gradient penalty needs independent samples.
    `summed`: the spatial sum instead of the mean, as in SNGAN (Miyato et al. 2018, appendix B).
    `width`: channels next to the image; published: 128 up to 32x32, 64 beyond.
    """
    halving, plain = _critic_channels(shape)
    channels = [shape[0], *(width * times for times in halving)]
    return nn.Sequential(
        *(_halving(inputs, outputs, first=place == 0) for place, (inputs, outputs) in enumerate(pairwise(channels))),
        *(_plain(width * times) for times in plain),
        nn.ReLU(),
        SpatialSum() if summed else _SpatialMean(),
        glorot(nn.Linear(channels[-1], 1, bias=last_bias)),
        Score(),
    )
