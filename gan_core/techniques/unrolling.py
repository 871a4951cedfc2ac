"""Unrolled GANs: a critic a few steps ahead. Metz et al. 2017, arXiv:1611.02163, section 2.2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gan_core import ranks

Scorer = Callable[[Tensor], Tensor]
_TINY = 1e-30
"""Smallest squared gradient under the root, because the root's derivative at 0 is infinite."""


def unrolled(
    critic: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[Scorer], Tensor], steps: int
) -> Scorer:
    """The critic after `steps` more Adam steps on `loss`. The critic and its optimiser are not changed.

    The steps start from the optimiser's state. Gradients flow through them to the fakes that `loss` depends on, and so
    to the generator. `loss` is a mean over this rank's slice; the steps use its gradient over the global batch.
    """
    weights = {name: weight.detach().requires_grad_() for name, weight in critic.named_parameters()}
    slots = {name: dict(optimizer.state[weight]) for name, weight in critic.named_parameters()}
    (group,) = optimizer.param_groups
    for _ in range(steps):
        value = loss(_with(critic, weights))
        grads = _global(torch.autograd.grad(value, list(weights.values()), create_graph=True))
        weights = {
            name: _adam(weight, grad, slots[name], group)
            for (name, weight), grad in zip(weights.items(), grads, strict=True)
        }
    return _with(critic, weights)


def _with(critic: nn.Module, weights: Mapping[str, Tensor]) -> Scorer:
    return lambda x: torch.func.functional_call(critic, dict(weights), (x,))


def _global(grads: tuple[Tensor, ...]) -> list[Tensor]:
    """The gradients' means over ranks, sent as one tensor. Gradients flow through them."""
    together = ranks.differentiable_mean(torch.cat([grad.flatten() for grad in grads]))
    return [part.view_as(grad) for part, grad in zip(together.split([g.numel() for g in grads]), grads, strict=True)]


def _adam(weight: Tensor, grad: Tensor, slot: dict[str, Tensor], group: Mapping[str, Any]) -> Tensor:
    """The weight after one step; `slot` is updated. Kingma & Ba 2015, algorithm 1."""
    lr, eps, (beta1, beta2) = group["lr"], group["eps"], group["betas"]
    slot["step"] = slot["step"].double() + 1
    slot["exp_avg"] = beta1 * slot["exp_avg"] + (1 - beta1) * grad
    slot["exp_avg_sq"] = beta2 * slot["exp_avg_sq"] + (1 - beta2) * grad.square()
    mean = slot["exp_avg"] / (1 - beta1 ** slot["step"])
    deviation = (slot["exp_avg_sq"] / (1 - beta2 ** slot["step"])).clamp(min=_TINY).sqrt()
    return weight - lr * mean / (deviation + eps)
