"""Fréchet Inception Distance: between Gaussians fitted to features. Heusel et al. 2017, equation 6."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """Mean (D,) and covariance (D, D), float64: all that FID needs of a set of features."""

    mean: Tensor
    covariance: Tensor

    @cached_property
    def root(self) -> Tensor:
        """R (D, r) with R R^T = covariance of rank r; columns in order of length, longest first. Computed once.

        The rank is counted as in numpy: eigenvalues above D eps times the largest.
        """
        values, axes = torch.linalg.eigh(self.covariance)  # ascending
        kept = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
        return (axes[:, kept] * values[kept].sqrt()).flip(1)

    def to(self, device: torch.device | str) -> Gaussian:
        """The same on a device."""
        if self.mean.device == torch.device(device):
            return self  # keeps the cached root
        return Gaussian(self.mean.to(device), self.covariance.to(device))


def frechet_distance(reference: Gaussian, other: Gaussian) -> float:
    """||m - m'||^2 + tr(C + C' - 2 (C C')^(1/2)), 0 or more.

    The trace of the root is the sum of the square roots of the eigenvalues of R^T C' R, where C = R R^T. That matrix
    is symmetric, so there are no complex numbers, and no square root of a product, which need not exist.

    A square root halves the number of correct digits, so small eigenvalues must be accurate. First, R's columns
    decrease in length, so R^T C' R decreases from its first corner, and eigvalsh makes small errors where eigenvalues
    are small. Second, at most rank C' eigenvalues are not zero. The others, around 1e-16 of the largest, would add 1e-8
    each and are left out.

    Raises ValueError for different widths, or values that are not finite.
    """
    if reference.mean.shape != other.mean.shape:
        raise ValueError(f"features are {len(other.mean)} wide, the reference's {len(reference.mean)}")
    for what, gaussian in (("reference", reference), ("features", other)):
        if not all(bool(value.isfinite().all()) for value in (gaussian.mean, gaussian.covariance)):
            raise ValueError(f"the mean or covariance of the {what} is not finite")
    eigenvalues = torch.linalg.eigvalsh(reference.root.T @ other.covariance @ reference.root)  # (r,), ascending
    zeros = max(0, len(eigenvalues) - int(torch.linalg.matrix_rank(other.covariance, hermitian=True)))
    shared = eigenvalues[zeros:].clamp(min=0).sqrt().sum()
    apart = (reference.mean - other.mean).square().sum()
    distance = apart + reference.covariance.trace() + other.covariance.trace() - 2 * shared
    return max(float(distance), 0.0)
