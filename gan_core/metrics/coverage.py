"""Mode coverage of a mixture of Gaussians whose centres are known: the classical test against mode collapse.

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
    """Which modes were found, and how well."""

    modes: int
    """Modes hit by enough high-quality samples."""
    high_quality: float
    """Share of samples within the radius of their nearest centre, 0 to 1. Of true samples in the plane, with a radius
    of three sigma: 1 - exp(-9 / 2) = 0.989."""
    per_mode: Tensor
    """High-quality samples of each mode (K,), int64."""


def mode_coverage(
    samples: Tensor, centres: Tensor, sigma: float, radius: float = 3.0, hits: int = 1, block: int = BLOCK
) -> ModeCoverage:
    """Of samples (N, D) on modes at `centres` (K, D) of deviation `sigma`, in the data's units.

    High quality: within `radius` sigmas of the nearest centre. A mode is found by `hits` of them or more.
    Raises ValueError for values that are not finite, no samples, or sizes that are not above 0.
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
