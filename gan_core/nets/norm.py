"""Normalisation: of activations over the global batch, and of weights by their largest singular value."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from gan_core import ranks

Net = TypeVar("Net", bound=nn.Module)


class _SpectralNorm(nn.Module):
    """W / sigma(W), with a row of W for each output; sigma is u^T W v with the singular vectors u (rows,) and v.

    An average of many rounds' v is shorter than 1, and sigma would be too small, so v is normalised when it is used.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        v = F.normalize(torch.randn_like(matrix[0]), dim=0)
        for _ in range(0 if weight.is_meta else 15):  # a check of shapes needs none
            v = F.normalize(matrix.T @ F.normalize(matrix @ v, dim=0), dim=0)
        self.register_buffer("v", v)

    def forward(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        with torch.no_grad():
            v = F.normalize(self.get_buffer("v"), dim=0)
            u = F.normalize(torch.mv(matrix, v), dim=0)
            if self.training:
                # By `out`, because torch.func.grad refuses copy_. A later pass changes the buffer, hence the clone.
                v = F.normalize(torch.mv(matrix.T, u), dim=0, out=self.get_buffer("v")).clone()
        return weight / (u * torch.mv(matrix, v)).sum()


def spectrally_normalised(net: Net) -> Net:
    """The net, with the weight of each convolution, linear layer and embedding divided by its largest singular value.

    Miyato et al. 2018, arXiv:1802.05957, algorithm 1: one power iteration in each forward pass of training. Its vectors
    depend on the weights alone, so all ranks have the same, and they are buffers, so a checkpoint holds them. Call this
    last, after the weights are initialised.
    """
    for module in list(net.modules()):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.Embedding):
            register_parametrization(module, "weight", _SpectralNorm(module.weight))
    return net


class GlobalBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the *global* batch, on any device (`nn.SyncBatchNorm` refuses CPU tensors).

    Ioffe & Szegedy 2015. Mean and variance take two passes, so that the variance is as exact as on one rank. A critic
    that a gradient penalty differentiates by torch.func takes `track_running_stats=False`: it has no state then.
    """

    def forward(self, x: Tensor) -> Tensor:  # (N, C) or (N, C, H, W)
        if not self.training or ranks.world_size() == 1:
            return super().forward(x)
        exact = x.float() if x.dtype.itemsize < 4 else x
        others, column = [0, *range(2, x.dim())], (-1, *[1] * (x.dim() - 2))
        mean = ranks.differentiable_mean(exact.mean(dim=others))  # (C,)
        centred = exact - mean.view(column)
        var = ranks.differentiable_mean(centred.square().mean(dim=others))  # (C,)
        if self.track_running_stats:
            self._track(mean.detach(), var.detach(), count=x.numel() // x.shape[1] * ranks.world_size())
        scale = (var + self.eps).rsqrt()
        if not self.affine:
            return (centred * scale.view(column)).to(x.dtype)
        return (centred * (self.weight * scale).view(column) + self.bias.view(column)).to(x.dtype)

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() not in (2, 4):
            raise ValueError(f"BatchNorm of {x.dim()} dimensions; nearest: (N, C) or (N, C, H, W)")

    def _track(self, mean: Tensor, var: Tensor, count: int) -> None:
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_((var * count / (count - 1)).to(self.running_var.dtype), self.momentum)


class ConditionalBatchNorm(nn.Module):
    """BatchNorm over the global batch whose gain and offset are linear in a condition, such as a class's embedding.

    y = (1 + G c) (x - mean) / deviation + O c, with a row of c for each sample. The statistics are those of all
    classes. de Vries et al. 2017, arXiv:1707.00683; Brock et al. 2019, arXiv:1809.11096, appendix B.
    """

    def __init__(self, channels: int, inputs: int) -> None:
        super().__init__()
        self.norm = GlobalBatchNorm(channels, affine=False)
        self.gain = nn.Linear(inputs, channels, bias=False)
        self.offset = nn.Linear(inputs, channels, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:  # (N, C, H, W), (N, inputs)
        gain, offset = (layer(condition)[:, :, None, None] for layer in (self.gain, self.offset))
        return self.norm(x) * (1 + gain) + offset
