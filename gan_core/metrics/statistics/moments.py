"""Moments of a set of features, computed in batches and merged in float64. The split into batches and ranks does not
matter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gan_core import ranks
from gan_core.metrics.fid import Gaussian


@dataclass(frozen=True)
class Moments:
    """Count, mean (D,) and scatter (D, D) = sum of (f - mean)(f - mean)^T, float64."""

    count: int
    mean: Tensor
    scatter: Tensor

    @staticmethod
    def none(like: Tensor) -> Moments:
        """Moments of no features, with the width and device of `like` (D,)."""
        zero = torch.zeros_like(like, dtype=torch.float64)
        return Moments(0, zero, torch.outer(zero, zero))

    @staticmethod
    def of(features: Tensor) -> Moments:
        """Moments of features (N, D). Raises ValueError if a feature is not finite."""
        exact = features.detach().double()
        if not bool(exact.isfinite().all()):
            raise ValueError(f"features hold {int((~exact.isfinite()).sum())} values that are not finite")
        mean = exact.mean(dim=0)
        centred = exact - mean
        return Moments(len(exact), mean, centred.T @ centred)

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets together. Chan, Golub & LeVeque 1979."""
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        scatter = self.scatter + other.scatter + torch.outer(apart, apart) * (self.count * other.count / count)
        return Moments(count, mean, scatter)

    def over_ranks(self) -> Moments:
        """Moments of all ranks' sets together, the same on every rank."""
        if ranks.world_size() == 1:
            return self
        count = int(ranks.total(torch.tensor(float(self.count), dtype=torch.float64, device=self.mean.device)))
        mean = ranks.total(self.mean * self.count) / count
        apart = self.mean - mean
        scatter = ranks.total(self.scatter + torch.outer(apart, apart) * self.count)
        return Moments(count, mean, scatter)

    @cached_property
    def gaussian(self) -> Gaussian:
        """The Gaussian with this mean and the unbiased covariance. Raises ValueError for fewer than two samples."""
        if self.count < 2:
            raise ValueError(f"a covariance needs 2 samples or more, there is {self.count}")
        return Gaussian(self.mean, self.scatter / (self.count - 1))
