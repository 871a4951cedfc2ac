"""Mode coverage: the usual test for mode collapse. Of a mixture of Gaussians the centres are known; of stacked images a
classifier names the mode.

Srivastava et al. 2017 (VEEGAN), section 4.1; Lin et al. 2018 (PacGAN).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gan_core.metrics.distances import BLOCK, check_features
from gan_core.metrics.memorisation import nearest_neighbours


@dataclass(frozen=True)
class ModeCoverage:
    """How many modes samples hit, and how well."""

    modes: int
    """Modes that enough high-quality samples hit."""
    high_quality: float
    """Share of samples within the radius of their nearest centre, 0 to 1. For samples of the mixture itself, in two
    dimensions and with a radius of three sigma, it is 1 - exp(-9 / 2) = 0.989."""
    per_mode: Tensor
    """Number of high-quality samples of each mode (K,), int64."""


def mode_coverage(
    samples: Tensor, centres: Tensor, sigma: float, radius: float = 3.0, hits: int = 1, block: int = BLOCK
) -> ModeCoverage:
    """Coverage of samples (N, D) over modes at `centres` (K, D) with standard deviation `sigma`, in the data's units.

    A sample is of high quality within `radius` sigmas of the nearest centre. A mode counts as found if `hits` of them
    or more hit it. Raises ValueError for values that are not finite, no samples, or parameters that are not above 0.
    """
    check_features(centres, "centres")
    check_features(samples, "samples", like=centres)
    for name, value in (("sigma", sigma), ("radius", radius), ("hits", hits)):
        if not value > 0:
            raise ValueError(f"{name}={value}: must be above 0")
    distance, nearest = nearest_neighbours(samples, centres, block)
    good = distance <= radius * sigma
    per_mode = torch.bincount(nearest[good], minlength=len(centres))
    return ModeCoverage(int((per_mode >= hits).sum()), float(good.double().mean()), per_mode)


def class_coverage(hits: Tensor) -> tuple[int, float]:
    """The number of classes with a hit, and KL(hits / N || uniform) in nats, of N samples' hits in each of K classes
    (K,). The divergence is 0 if all classes have equally many, and log K if one has all; N true samples of K classes
    have about (K - 1) / 2N.

    Metz et al. 2017, arXiv:1611.02163, section 3.3.1. Raises ValueError without a sample.
    """
    total = hits.double().sum()
    if not total > 0:
        raise ValueError("no sample to count")
    share = hits.double()[hits > 0] / total
    return int((hits > 0).sum()), max(float((share * (share * len(hits)).log()).sum()), 0.0)
