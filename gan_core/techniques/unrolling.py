"""Unrolled GANs: a critic a few steps ahead. Metz et al. 2017, arXiv:1611.02163, section 2.2."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
    names, parameters = zip(*critic.named_parameters(), strict=True)
    shapes = [parameter.shape for parameter in parameters]
    slots = [optimizer.state[parameter] for parameter in parameters]
    (group,) = optimizer.param_groups
    step = slots[0]["step"].double()
    mean, square = (_flat(slot[key] for slot in slots) for key in ("exp_avg", "exp_avg_sq"))
    # All weights are one vector: Adam's few operations are then recorded once a step, not once a layer.
    flat = _flat(parameter.detach() for parameter in parameters).requires_grad_()
    weights = _views(flat, shapes)
    for _ in range(steps):
        (slope,) = torch.autograd.grad(loss(_with(critic, names, weights)), flat, create_graph=True)
        flat, step, mean, square = _adam(flat, ranks.differentiable_mean(slope), step, mean, square, group)
        weights = _views(flat, shapes)
    return _with(critic, names, weights)


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _views(flat: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    parts = flat.split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def _with(critic: nn.Module, names: Sequence[str], weights: Sequence[Tensor]) -> Scorer:
    return lambda x: torch.func.functional_call(critic, dict(zip(names, weights, strict=True)), (x,))


def _adam(
    weight: Tensor, grad: Tensor, step: Tensor, mean: Tensor, square: Tensor, group: Mapping[str, Any]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weight, step count and running averages after one step. Kingma & Ba 2015, algorithm 1."""
    lr, eps, (beta1, beta2) = group["lr"], group["eps"], group["betas"]
    step = step + 1
    mean = beta1 * mean + (1 - beta1) * grad
    square = beta2 * square + (1 - beta2) * grad.square()
    deviation = (square / (1 - beta2**step)).clamp(min=_TINY).sqrt()
    return weight - lr * (mean / (1 - beta1**step)) / (deviation + eps), step, mean, square
