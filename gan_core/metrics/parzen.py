"""Parzen window log-likelihood of test data: the density is a mixture of Gaussians of one width around samples.

Breuleux et al. 2011; Goodfellow et al. 2014, section 5. A weak measure in many dimensions (Theis et al. 2016).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_core.metrics.distances import BLOCK, check_features, tiles

SIGMAS = tuple(10 ** (exponent / 10) for exponent in range(-30, 11))
"""0.001 to 10, ten per decade. The original code tries ten from 0.1 to 1, for pixels in [0, 1]."""


@dataclass(frozen=True)
class ParzenLikelihood:
    """Mean log-likelihood of test points in nats, and the window's width."""

    mean: float
    standard_error: float
    sigma: float
    """The window's width, the best one on the validation points."""
    on_edge: bool
    """Whether that is the smallest or largest width tried, so that a better one may exist. False if one was tried."""


def log_densities(points: Tensor, samples: Tensor, sigmas: tuple[float, ...], block: int = BLOCK) -> Tensor:
    """Log-density (S, N) in nats, float64, of `points` (N, D) under windows of each width around `samples` (M, D).

    log p(x) = logsumexp_i(-|x - s_i|^2 / 2 sigma^2) - log M - D / 2 log(2 pi sigma^2).
    Raises ValueError for values that are not finite and widths that are not above 0.
    """
    check_features(samples, "samples")
    check_features(points, "points", like=samples)
    wrong = [sigma for sigma in sigmas if not 0 < sigma < math.inf]
    if wrong or not sigmas:
        raise ValueError(f"sigmas={wrong}: widths must be above 0 and finite, one or more")
    total = torch.full((len(sigmas), len(points)), -torch.inf, dtype=torch.float64, device=points.device)
    for rows, _, squared in tiles(points, samples, block):
        for so_far, sigma in zip(total, sigmas, strict=True):
            so_far[rows] = torch.logaddexp(so_far[rows], (squared / (-2 * sigma**2)).logsumexp(dim=1))
    volumes = [samples.shape[1] / 2 * math.log(2 * math.pi * sigma**2) for sigma in sigmas]
    return total - math.log(len(samples)) - torch.tensor(volumes, dtype=torch.float64, device=total.device)[:, None]


def parzen(
    samples: Tensor, validation: Tensor, test: Tensor, sigmas: tuple[float, ...] = SIGMAS, block: int = BLOCK
) -> ParzenLikelihood:
    """Log-likelihood of `test` (N, D) under windows around `samples` (M, D), of the best width for `validation` (V, D).

    Raises ValueError for values that are not finite, fewer than two test points, and widths that are not above 0.
    """
    check_features(test, "test points", 2, like=samples)
    means = log_densities(validation, samples, sigmas, block).mean(dim=1)
    sigma = sigmas[int(means.argmax())]
    found = log_densities(test, samples, (sigma,), block)[0]
    return ParzenLikelihood(
        mean=float(found.mean()),
        standard_error=float(found.std()) / math.sqrt(len(test)),
        sigma=sigma,
        on_edge=len(sigmas) > 1 and sigma in (min(sigmas), max(sigmas)),
    )
