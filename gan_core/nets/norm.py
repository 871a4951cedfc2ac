"""Normalisation: of activations over the global batch, and of weights by their largest singular value."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gan_core import ranks

Net = TypeVar("Net", bound=nn.Module)


def spectrally_normalised(net: Net) -> Net:
    """The net, with the weight of each convolution and linear layer divided by its largest singular value.

    Miyato et al. 2018, arXiv:1802.05957, algorithm 1: one power iteration in each forward pass of training. Its vectors
    depend on the weights alone, so all ranks have the same, and they are buffers, so a checkpoint holds them. Call this
    last, after the weights are initialised.
    """
    for module in list(net.modules()):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            spectral_norm(module)
    return net


class GlobalBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the *global* batch, on any device (`nn.SyncBatchNorm` refuses CPU tensors).

    Ioffe & Szegedy 2015. Mean and variance take two passes, so that the variance is as exact as on one rank.
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
