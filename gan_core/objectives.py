"""Losses and penalties: functions of tensors alone. Scores are raw critic outputs (logits), shape (N,)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core import ranks


def discriminator_loss(real_score: Tensor, fake_score: Tensor) -> Tensor:
    """-E log D(x) - E log(1 - D(G(z))), D = sigmoid(score). Goodfellow et al. 2014, equation 1."""
    return F.softplus(-real_score).mean() + F.softplus(fake_score).mean()


def minimax_loss(fake_score: Tensor) -> Tensor:
    """E log(1 - D(G(z))), minimised by G. Goodfellow et al. 2014, equation 1."""
    return -F.softplus(fake_score).mean()


def non_saturating_loss(fake_score: Tensor) -> Tensor:
    """-E log D(G(z)), minimised by G. Goodfellow et al. 2014, section 3."""
    return F.softplus(-fake_score).mean()


def wasserstein_estimate(real_score: Tensor, fake_score: Tensor) -> Tensor:
    """E f(x) - E f(G(z)): the earth mover's distance, up to f's Lipschitz constant, at the best f.

    Arjovsky et al. 2017, equation 3; the critic minimises its negative.
    """
    return real_score.mean() - fake_score.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """E (||grad f(x̂)||_2 - 1)^2 with x̂ = mix * real + (1 - mix) * fake, the norm over a whole sample.

    `mix` has one weight a sample, shape (N, 1, ...). Gulrajani et al. 2017, equation 3. `norm()` has a zero
    subgradient at zero, where sqrt(sum of squares) gives NaN.
    """
    between = torch.lerp(fake, real, mix).detach()  # (N, *shape)
    slope = torch.func.grad(lambda x: critic(x).sum())(between)  # (N, *shape)
    return (torch.linalg.vector_norm(slope.flatten(1), dim=1) - 1).square().mean()


def known_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of logits (N, classes) averaged over the labels (N,) of the *global* batch that are known, not -1;
    0 if none is. Its mean over ranks is that average."""
    total = F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
    known = ranks.mean((labels >= 0).sum().to(total.dtype))  # of a rank
    return total / known.clamp(min=1 / ranks.world_size())


def feature_matching_loss(real: Tensor, fake: Tensor) -> Tensor:
    """||E f(x) - E f(G(z))||_2^2 of features (N, count), means over the *global* batch. Salimans et al. 2016,
    section 3.1."""
    return ranks.differentiable_mean(real.mean(dim=0) - fake.mean(dim=0)).square().sum()
