"""Networks: MLPs and DCGAN's convolutional pair. A generator maps (N, latent) to (N, *shape), a critic
(N, *shape) to scores (N,)."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core import ranks
from gan_core.family import NetName
from gan_core.recipe import Shape


class GlobalBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the *global* batch, on any device (`nn.SyncBatchNorm` refuses CPU tensors).

    Ioffe & Szegedy 2015. Two passes, so that the variance is as exact as on one rank.
    """

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        if not self.training or ranks.world_size() == 1:
            return super().forward(x)
        exact = x.float() if x.dtype.itemsize < 4 else x
        mean = ranks.differentiable_mean(exact.mean(dim=(0, 2, 3)))  # (C,)
        centred = exact - mean[:, None, None]
        var = ranks.differentiable_mean(centred.square().mean(dim=(0, 2, 3)))  # (C,)
        self._track(mean.detach(), var.detach(), count=x.numel() // x.shape[1] * ranks.world_size())
        scale = self.weight * (var + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    def _track(self, mean: Tensor, var: Tensor, count: int) -> None:
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_((var * count / (count - 1)).to(self.running_var.dtype), self.momentum)


def without_grad(generator: nn.Module, z: Tensor) -> Tensor:
    """The generator's samples for a critic's turn: nothing flows back into it."""
    with torch.no_grad():
        return generator(z).to(z.dtype)


def scores(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of real and fake in one forward: for critics that look at each sample by itself."""
    both = critic(torch.cat([real, fake]))
    return both[: len(real)], both[len(real) :]


def generator(net: NetName, latent: int, shape: Shape, width: int) -> nn.Module:
    """A generator by name. `width`: channels beside the image (dcgan), a 16th of the hidden units (mlp)."""
    if _resolved(net, shape) == "mlp":
        return mlp_generator(latent, shape, hidden=16 * width)
    return dcgan_generator(latent, shape, width)


def wasserstein_critic(net: NetName, shape: Shape, width: int) -> nn.Module:
    """A critic by name, without BatchNorm and without a last bias: an offset of all scores changes no distance, so
    its gradient is rounding noise, which Adam would turn into whole steps."""
    if _resolved(net, shape) == "mlp":
        return mlp_critic(shape, hidden=16 * width, last_bias=False)
    return dcgan_critic(shape, width, batch_norm=False, last_bias=False)


def _resolved(net: NetName, shape: Shape) -> Literal["mlp", "dcgan"]:
    if net == "auto":
        return "dcgan" if len(shape) == 3 else "mlp"
    return net


class _Score(nn.Module):
    """(N, 1, ...) -> (N,)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten()


def mlp_generator(latent: int, shape: Shape, hidden: int) -> nn.Module:
    """latent -> hidden -> hidden -> shape; tanh for images, linear for points. Goodfellow et al. 2014."""
    layers = [
        nn.Linear(latent, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, math.prod(shape)),
        *([nn.Tanh()] if len(shape) == 3 else []),
        nn.Unflatten(1, shape),
    ]
    return nn.Sequential(*layers)


def mlp_critic(shape: Shape, hidden: int, *, last_bias: bool = True) -> nn.Module:
    """shape -> hidden -> hidden -> score, LeakyReLU(0.2)."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(shape), hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(hidden, hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(hidden, 1, bias=last_bias),
        _Score(),
    )


class _Project(nn.Module):
    """latent -> (N, C, 4, 4): the transposed convolution of a 1x1 image, as the matrix product that it is."""

    def __init__(self, latent: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(latent, channels * 16, bias=False)

    def forward(self, z: Tensor) -> Tensor:  # (N, latent)
        return F.linear(z, self.project.weight).unflatten(1, (-1, 4, 4))  # (N, C, 4, 4)


def _levels(shape: Shape) -> int:
    """Halvings from the image's side down to 4."""
    assert len(shape) == 3, shape
    levels = int(math.log2(shape[1])) - 2
    assert shape[1] == shape[2] == 4 * 2**levels, shape
    return levels


def dcgan_generator(latent: int, shape: Shape, width: int) -> nn.Module:
    """Transposed 4x4 convolutions from 4x4 up, BatchNorm but on the output, ReLU, tanh. Radford et al. 2016."""
    levels = _levels(shape)
    channels = [width * 2**level for level in reversed(range(levels))]
    layers: list[nn.Module] = [_Project(latent, channels[0]), GlobalBatchNorm(channels[0]), nn.ReLU()]
    for wide, narrow in pairwise(channels):
        layers += [
            nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False),
            GlobalBatchNorm(narrow),
            nn.ReLU(),
        ]
    layers += [nn.ConvTranspose2d(channels[-1], shape[0], 4, 2, 1), nn.Tanh()]
    return initialised(nn.Sequential(*layers))


def dcgan_critic(shape: Shape, width: int, *, batch_norm: bool, last_bias: bool = True) -> nn.Module:
    """Strided 4x4 convolutions down to 4x4, LeakyReLU(0.2), BatchNorm but on the input. Radford et al. 2016."""
    levels = _levels(shape)
    channels = [width * 2**level for level in range(levels)]
    layers: list[nn.Module] = [nn.Conv2d(shape[0], width, 4, 2, 1), nn.LeakyReLU(0.2)]
    for narrow, wide in pairwise(channels):
        layers += [nn.Conv2d(narrow, wide, 4, 2, 1, bias=not batch_norm)]
        layers += [GlobalBatchNorm(wide)] if batch_norm else []
        layers += [nn.LeakyReLU(0.2)]
    layers += [nn.Flatten(), nn.Linear(channels[-1] * 16, 1, bias=last_bias), _Score()]
    return initialised(nn.Sequential(*layers))


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
