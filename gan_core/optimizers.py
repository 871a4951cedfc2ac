"""Optimisers with the papers' settings, fused where PyTorch supports it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from gan_core.recipe import OptimizerFactory


def adam(lr: float, beta1: float, beta2: float) -> OptimizerFactory:
    """Adam (Kingma & Ba 2015)."""

    def build(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=lr, betas=(beta1, beta2), fused=True)

    return build


def sgd(lr: float) -> OptimizerFactory:
    """Plain gradient descent, without momentum."""

    def build(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=lr, fused=True)

    return build


def rmsprop(lr: float) -> OptimizerFactory:
    """RMSProp without momentum, decay 0.99 (Tieleman & Hinton 2012), as in WGAN."""

    def build(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(parameters, lr=lr, foreach=True)

    return build


def guarded_step(optimizer: torch.optim.Optimizer, diverged: Tensor | None) -> None:
    """A step that leaves the weights finite if `diverged` is 1, and is an ordinary step if it is 0 or None.

    `diverged` has no dimensions and is not read from the device. A fused optimiser then changes nothing; another one
    takes gradients of zero.
    """
    if diverged is None:
        pass
    elif optimizer.defaults.get("fused"):
        optimizer.found_inf = diverged  # type: ignore[attr-defined]
    else:
        mask = diverged.bool()
        for weight in (one for group in optimizer.param_groups for one in group["params"] if one.grad is not None):
            weight.grad.masked_fill_(mask, 0)
    optimizer.step()
