"""Fréchet Inception Distance: between Gaussians fitted to features. Heusel et al. 2017, equation 6."""

from __future__ import annotations

import torch
from torch import Tensor

from gan_core.metrics.statistics import Moments


def root(covariance: Tensor) -> Tensor:
    """The symmetric square root of a positive semi-definite (D, D); rounding below zero is cut off."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def frechet_distance(reference: Moments, other: Moments) -> float:
    """||m - m'||^2 + tr(C + C' - 2 (C C')^(1/2)) for two sets' moments, 0 or more.

    The trace of the root is the sum of the roots of the eigenvalues of C^(1/2) C' C^(1/2), which is symmetric:
    no complex numbers, and singular covariances (fewer samples than features) are exact.
    """
    half = root(reference.covariance)
    product = half @ other.covariance @ half
    shared = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    apart = (reference.mean - other.mean).square().sum()
    distance = apart + reference.covariance.trace() + other.covariance.trace() - 2 * shared
    return max(float(distance), 0.0)
