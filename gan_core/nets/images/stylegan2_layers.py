"""Layers of StyleGAN2: equalised weights, modulated convolutions, the deviation within a minibatch.

Karras et al. 2020, arXiv:1912.04958, section 2 and appendix B; equalised learning rate and the minibatch's deviation
are of Karras et al. 2018, arXiv:1710.10196, sections 3 and 4.1.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core import ranks, streams
from gan_core.nets.resampling import downsampled, smoothed
from gan_core.recipe import Turn

_GAIN = math.sqrt(2)
"""What keeps the variance behind a leaky ReLU. The function is homogeneous, so small tensors before it are multiplied
instead of its output."""
_TINY = 1e-8


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU with the slope 0.2, of what was multiplied by its gain already."""
    return F.leaky_relu(x, 0.2)


class EqualLinear(nn.Module):
    """A linear layer whose weights start from N(0, 1) and are scaled in each pass: (N, inputs) -> (N, outputs).

    So Adam changes all layers at the same pace. `rate`: the factor of the layer's learning rate. `active`: a leaky ReLU
    follows.
    """

    def __init__(
        self, inputs: int, outputs: int, *, bias: float = 0.0, rate: float = 1.0, active: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.active = active
        gain = _GAIN if active else 1.0
        self.scale, self.bias_scale = gain * rate / math.sqrt(inputs), gain * rate

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x, self.weight * self.scale, self.bias * self.bias_scale)
        return leaky(x) if self.active else x


class EqualConv(nn.Module):
    """A convolution with equalised weights, in a critic. `active`: with a bias and a leaky ReLU. `down`: behind the
    filter [1, 3, 3, 1] it takes every second place. `gain`: a factor of the result."""

    def __init__(
        self, inputs: int, outputs: int, size: int, *, active: bool = True, down: bool = False, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if active else None
        self.down = down
        self.gain = gain * (_GAIN if active else 1.0)
        self.scale = self.gain / math.sqrt(inputs * size**2)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        weight, size = self.weight * self.scale, self.weight.shape[2]
        if self.down and size == 1:  # fewer pixels first
            x = F.conv2d(downsampled(x), weight)
        elif self.down:
            x = F.conv2d(smoothed(x, 1 + size // 2), weight, stride=2)
        else:
            x = F.conv2d(x, weight, padding=size // 2)
        return x if self.bias is None else leaky(x + (self.bias * self.gain)[:, None, None])


class ModulatedConv(nn.Module):
    """A convolution whose weights a style scales by input channel: (N, C, H, W), w (N, latent) -> (N, outputs, H, W).

    The weight of sample n is s_ni w_oik. With `demodulate` it is divided by its norm over i and k, so that inputs of
    unit variance give outputs of unit variance (equations 1 and 3). Both factors are applied to activations instead of
    weights: the sums are the same, and one convolution with shared weights serves all samples. `up` doubles the sides:
    a transposed convolution, then the filter [1, 3, 3, 1].
    """

    def __init__(
        self, inputs: int, outputs: int, latent: int, size: int = 3, *, up: bool = False, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.style = EqualLinear(latent, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.up = up
        self.demodulate = demodulate
        self.scale = 1 / math.sqrt(inputs * size**2)

    def forward(self, x: Tensor, w: Tensor, gain: float = 1.0) -> Tensor:
        style, size = self.style(w), self.weight.shape[2]
        if not self.demodulate:
            return F.conv2d(x * (style * (self.scale * gain))[:, :, None, None], self.weight, padding=size // 2)
        x = x * style[:, :, None, None]
        if self.up:
            x = smoothed(F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2), 1, gain=4.0)
        else:
            x = F.conv2d(x, self.weight, padding=size // 2)
        squares = style.square() @ self.weight.square().sum(dim=(2, 3)).T  # (N, outputs)
        return x * ((squares + _TINY).rsqrt() * gain)[:, :, None, None]


class StyledConv(nn.Module):
    """A modulated 3x3 convolution, noise, bias and leaky ReLU.

    The noise is one number a place, the same for all channels, times a learnt strength that starts at 0. It is drawn
    for the global batch as a function of (seed, turn) and the layer's `place`; without a turn there is none.
    """

    def __init__(self, inputs: int, outputs: int, latent: int, place: int, *, up: bool = False) -> None:
        super().__init__()
        self.convolution = ModulatedConv(inputs, outputs, latent, up=up)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.strength = nn.Parameter(torch.zeros(()))
        self.place = place

    def forward(self, x: Tensor, w: Tensor, turn: Turn | None) -> Tensor:
        x = self.convolution(x, w, _GAIN)
        if turn is not None:
            x = x + streams.normal(turn, f"noise {self.place}", x[:, :1]) * (self.strength * _GAIN)
        return leaky(x + (self.bias * _GAIN)[:, None, None])


class ToImage(nn.Module):
    """Features to colours: a modulated 1x1 convolution without demodulation, and a bias."""

    def __init__(self, inputs: int, colours: int, latent: int) -> None:
        super().__init__()
        self.convolution = ModulatedConv(inputs, colours, latent, 1, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(colours))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:  # (N, C, H, W), (N, latent)
        return self.convolution(x, w) + self.bias[:, None, None]


class MinibatchDeviation(nn.Module):
    """Appends a channel: how much the samples of a group differ, (N, C, H, W) -> (N, C + 1, H, W).

    A group is so many consecutive samples of the *global* batch, or the most below that divide it. Its number is the
    standard deviation over the group, a mean over channels and places. Give real and fake samples separately.
    """

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        mine, count = len(x), len(x) * ranks.world_size()
        group = next(size for size in range(min(self.group, count), 0, -1) if count % size == 0)
        first, rows = 0, x
        if mine % group:  # groups lie across ranks
            first, rows = ranks.rank() * mine, ranks.gathered(x)
        rows = rows.float() if rows.dtype.itemsize < 4 else rows
        groups = rows.unflatten(0, (-1, group))
        # `var` over an inner dimension takes 20 times as long on a CPU.
        deviation = ((groups - groups.mean(dim=1, keepdim=True)).square().mean(dim=1) + _TINY).sqrt()
        numbers = deviation.mean(dim=(1, 2, 3)).repeat_interleave(group)[first : first + mine].to(x.dtype)
        return torch.cat([x, numbers[:, None, None, None].expand(-1, 1, *x.shape[2:])], dim=1)
