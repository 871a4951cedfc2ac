"""Sums and means over the ranks of one game. Without a process group there is one rank, and nothing is sent."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """The rank of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """The number of workers of this game."""
    return dist.get_world_size() if dist.is_initialized() else 1


def total(value: Tensor) -> Tensor:
    """The sum of `value` over all ranks, without gradient. `value` is not changed."""
    if world_size() == 1:
        return value
    summed = value.detach().clone()
    dist.all_reduce(summed)
    return summed


def mean(value: Tensor) -> Tensor:
    """The mean of `value` over all ranks, without gradient."""
    return total(value) / world_size()


class _Total(torch.autograd.Function):
    """Sum over ranks. Each rank's loss depends on every rank's term, so the gradient is a sum over ranks, too."""

    @staticmethod
    def forward(value: Tensor) -> Tensor:
        return total(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Nothing to save. Its existence makes the function usable under torch.func."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _Total.apply(grads[0].contiguous())


def gathered(value: Tensor) -> Tensor:
    """The rows (N, ...) of all ranks, in the order of ranks: (world N, ...). Gradients flow to every rank."""
    if world_size() == 1:
        return value
    before, after = (
        value.new_zeros(len(value) * count, *value.shape[1:]) for count in (rank(), world_size() - 1 - rank())
    )
    return _Total.apply(torch.cat([before, value, after]))


def differentiable_mean(value: Tensor) -> Tensor:
    """The mean of `value` over all ranks. Gradients flow to every rank."""
    return _Total.apply(value) / world_size()
