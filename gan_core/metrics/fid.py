"""Fréchet Inception Distance: between Gaussians fitted to features. Heusel et al. 2017, equation 6."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """Mean (D,) and covariance (D, D), float64: all that FID keeps of a set of features."""

    mean: Tensor
    covariance: Tensor

    @cached_property
    def root(self) -> Tensor:
        """R (D, r), R R^T = covariance of rank r: its axes, the longest first. A reference's part, computed once.

        The rank is numpy's: eigenvalues above D eps times the largest.
        """
        values, axes = torch.linalg.eigh(self.covariance)  # ascending
        kept = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
        return (axes[:, kept] * values[kept].sqrt()).flip(1)

    def to(self, device: torch.device | str) -> Gaussian:
        """The same on a device."""
        if self.mean.device == torch.device(device):
            return self  # and with it the root, if it is known
        return Gaussian(self.mean.to(device), self.covariance.to(device))


def frechet_distance(reference: Gaussian, other: Gaussian) -> float:
    """||m - m'||^2 + tr(C + C' - 2 (C C')^(1/2)), 0 or more.

    The trace of the root is the sum of the roots of the eigenvalues of R^T C' R, C = R R^T, which is symmetric: no
    complex numbers, and no matrix root of a product, which may have none.

    Two things keep the small eigenvalues' digits, which their roots halve. R's columns fall in length, so R^T C' R
    falls from its first corner, where eigvalsh begins: rounding stays small where the eigenvalues are small. And no
    more than rank C' of them are not zero; the others, around 1e-16 of the largest, would add 1e-8 each.

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
