"""BigGAN's networks. Brock et al. 2019, arXiv:1809.11096, appendix B; up to 32x32 as in its public code for CIFAR-10,
ajbrock/BigGAN-PyTorch, with self-attention.

Weights start orthogonal (Saxe et al. 2014), biases at zero. `width`: channels next to the image. The papers' unit is
ch: `width` is 4 ch up to 32x32 (published: 256), 2 ch at 64x64, ch beyond (published: 96).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_core.nets.heads import ProjectionCritic
from gan_core.nets.layers import MeanPooled, Score, SpatialSum, Upsampled, halvings
from gan_core.nets.norm import ConditionalBatchNorm, GlobalBatchNorm, spectrally_normalised
from gan_core.recipe import Shape
from gan_core.settings import SettingsError

EMBEDDING = 128
"""Numbers of the class embedding that all of a generator's BatchNorms share."""
_ATTENDED = 64
"""Largest side of a map with self-attention."""

_GENERATOR = {4: (8, 8, 4, 2, 1), 5: (16, 16, 8, 4, 2, 1), 6: (16, 16, 8, 8, 4, 2, 1), 7: (16, 16, 8, 8, 4, 2, 1, 1)}
"""By number of doublings: channels in units of `width`, of the smallest map and after each block. Up to 3 doublings,
which is 32x32, all have `width`."""

_CRITIC = {4: (1, 2, 4, 8, 16), 5: (1, 2, 4, 8, 16, 16), 6: (1, 2, 4, 8, 8, 16, 16), 7: (1, 1, 2, 4, 8, 8, 16, 16)}
"""By number of the generator's doublings: channels in units of ch after each block. All but the last halve the sides.
"""


class SelfAttention(nn.Module):
    """x + gamma * attention, each place over all places, whose keys and values are the largest of 2x2.

    Zhang et al. 2019, arXiv:1805.08318, section 3, without biases. A query has an eighth of the channels, a value half.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow, half = max(channels // 8, 1), max(channels // 2, 1)
        self.query = nn.Conv2d(channels, narrow, 1, bias=False)
        self.key = nn.Conv2d(channels, narrow, 1, bias=False)
        self.value = nn.Conv2d(channels, half, 1, bias=False)
        self.out = nn.Conv2d(half, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        query = self.query(x).flatten(2)  # (N, C/8, HW)
        key, value = (F.max_pool2d(layer(x), 2).flatten(2) for layer in (self.key, self.value))  # (N, ..., HW/4)
        attention = (query.transpose(1, 2) @ key).softmax(dim=2)  # (N, HW, HW/4)
        found = (value @ attention.transpose(1, 2)).unflatten(2, x.shape[2:])  # (N, C/2, H, W)
        return x + self.gamma * self.out(found)


class _Doubling(nn.Module):
    """A generator's block. Its convolutions have no biases: a BatchNorm follows on all paths and removes a channel's
    constant, so the gradient of a bias would be rounding noise, which Adam turns into full steps."""

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([ConditionalBatchNorm(inputs, condition), ConditionalBatchNorm(outputs, condition)])
        self.doubled = Upsampled(inputs, outputs, 3, padding=1, bias=False)
        self.plain = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shorter = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.Upsample(scale_factor=2))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:  # (N, inputs, H, W), (N, condition)
        longer = self.doubled(self.norms[0](x, condition).relu())
        longer = self.plain(self.norms[1](longer, condition).relu())
        return longer + self.shorter(x)  # (N, outputs, 2H, 2W)


class _Generator(nn.Module):
    """(z, labels) -> images. The first chunk of z makes the smallest map. Each block's BatchNorms get the class's
    embedding, which all share, with a chunk of their own."""

    def __init__(self, latent: int, shape: Shape, classes: int, width: int) -> None:
        super().__init__()
        doublings, size = halvings(shape, largest=7)
        channels = [width * times for times in _GENERATOR.get(doublings, (1,) * (doublings + 1))]
        self.chunks = _chunks(latent, doublings + 1)
        self.smallest = nn.Sequential(
            nn.Linear(self.chunks[0], channels[0] * math.prod(size)), nn.Unflatten(1, (channels[0], *size))
        )
        self.blocks = nn.ModuleList(
            _Doubling(inputs, outputs, EMBEDDING + chunk)
            for (inputs, outputs), chunk in zip(pairwise(channels), self.chunks[1:], strict=True)
        )
        self.attended = doublings - min(_halvings_before_attention(shape), doublings)
        self.attention = SelfAttention(channels[self.attended])
        self.image = nn.Sequential(
            GlobalBatchNorm(width), nn.ReLU(), nn.Conv2d(width, shape[0], 3, padding=1), nn.Tanh()
        )
        spectrally_normalised(_orthogonal(self))
        # The embedding is not normalised, as in the paper's code.
        self.embedding = _orthogonal(nn.Embedding(classes, EMBEDDING))

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:  # (N, latent), (N,)
        embedded = self.embedding(labels)  # (N, EMBEDDING)
        first, *others = z.split(self.chunks, dim=1)
        x = self.smallest(first)
        for place, (block, chunk) in enumerate(zip(self.blocks, others, strict=True)):
            x = self.attention(x) if place == self.attended else x
            x = block(x, torch.cat([embedded, chunk], dim=1))
        return self.image(x)


class _Judging(nn.Module):
    """A critic's block. The first block does not begin with a ReLU, because its input is the image."""

    def __init__(self, inputs: int, outputs: int, *, halving: bool, first: bool = False) -> None:
        super().__init__()
        last = MeanPooled if halving else nn.Conv2d
        self.longer = nn.Sequential(
            nn.Identity() if first else nn.ReLU(),
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.ReLU(),
            last(outputs, outputs, 3, padding=1),
        )
        self.shorter = nn.Sequential(
            nn.AvgPool2d(2) if halving else nn.Identity(),
            nn.Conv2d(inputs, outputs, 1) if halving or inputs != outputs else nn.Identity(),
        )

    def forward(self, x: Tensor) -> Tensor:  # (N, inputs, H, W)
        return self.longer(x) + self.shorter(x)  # (N, outputs, H/2, W/2) if halving


def biggan_generator(latent: int, shape: Shape, classes: int, width: int) -> nn.Module:
    """(z (N, latent), labels (N,)) -> images in [-1, 1]: a linear map to 4x4 (7x7), a block per doubling.

    z is cut into a chunk for the linear map and one for each block; published: 120 numbers, 20 a chunk, at 128x128.
    Raises SettingsError, with the nearest latent dimension, if z has fewer numbers than there are chunks.
    """
    return _Generator(latent, shape, classes, width)


def biggan_critic(shape: Shape, classes: int, width: int) -> nn.Module:
    """(images, labels (N,)) -> scores (N,), each image's by itself: blocks, ReLU, the spatial sum, and a projection.

    Up to 32x32 there are four blocks of `width`: those that halve the sides, until one is at most 8 and at least once,
    and those that keep them.
    """
    doublings, _ = halvings(shape, largest=7)
    unit = max(width // 2, 1) if doublings == 4 else width
    halving = doublings if doublings in _CRITIC else halvings(shape, largest=8, least=1)[0]
    channels = [shape[0], *(unit * times for times in _CRITIC.get(doublings, (1, 1, 1, 1)))]
    blocks: list[nn.Module] = [
        _Judging(inputs, outputs, halving=place < halving, first=place == 0)
        for place, (inputs, outputs) in enumerate(pairwise(channels))
    ]
    attended = min(_halvings_before_attention(shape), halving)
    blocks.insert(attended, SelfAttention(channels[attended]))
    critic = nn.Sequential(*blocks, nn.ReLU(), SpatialSum(), nn.Linear(channels[-1], 1), Score())
    return spectrally_normalised(_orthogonal(ProjectionCritic(critic, classes)))


def orthogonal_regularisation(net: nn.Module) -> Tensor:
    """The sum over weights of || W W^T (1 - I) ||_F^2, with a row of W for each output: filters that point in the same
    direction cost, long ones do not. Brock et al. 2019, equation 3.

    The weights are those that are trained, before spectral normalisation. Embeddings are left out, as in the paper's
    code.
    """
    skipped = {id(module.weight) for module in net.modules() if isinstance(module, nn.Embedding)}
    found = []
    for weight in net.parameters():
        if weight.dim() > 1 and id(weight) not in skipped:
            matrix = weight.flatten(1)
            products = matrix @ matrix.T
            found.append((products - products.diag().diag()).square().sum())
    return torch.stack(found).sum()


def _chunks(latent: int, count: int) -> list[int]:
    """The sizes of `count` parts of z, the first ones larger by 1 if they cannot be equal."""
    if latent < count:
        raise SettingsError(
            f"family.latent={latent} is too small: z is cut into {count} parts", nearest=f"family.latent={count}"
        )
    return [latent // count + (place < latent % count) for place in range(count)]


def _halvings_before_attention(shape: Shape) -> int:
    """How often the image is halved where self-attention is: once, and until no side is above 64."""
    longest, count = max(shape[1:]) / 2, 1
    while longest > _ATTENDED:
        longest, count = longest / 2, count + 1
    return count


def _orthogonal(net: nn.Module) -> nn.Module:
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
            nn.init.orthogonal_(module.weight)
            if not isinstance(module, nn.Embedding) and module.bias is not None:
                nn.init.zeros_(module.bias)
    return net
