"""Confidence intervals from resampled rows: the percentile bootstrap. Efron & Tibshirani 1993, chapter 13."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_core.metrics.distances import BLOCK, tile_rows
from gan_core.metrics.statistics.moments import Moments
from gan_core.streams import seeded


@dataclass(frozen=True)
class Interval:
    """A statistic of the rows, and its interval over resamples."""

    estimate: float
    low: float
    high: float
    bias: float
    """Mean over resamples minus the estimate. Large for FID: a set with repeated rows is biased like a smaller set."""

    def centred(self) -> tuple[float, float]:
        """The interval shifted by -bias. Print this one for FID: the plain interval may not contain the estimate.

        It is an interval of the FID at this number of samples, not at an infinite number.
        """
        return self.low - self.bias, self.high - self.bias


def resampled_counts(count: int, resamples: int, seed: int = 0) -> Iterator[Tensor]:
    """For each resample of `count` rows with replacement: how often each row is drawn (count,), int64.

    A resample depends only on the seed and its number. `arange(count).repeat_interleave(counts)` gives row numbers.
    """
    for index in range(resamples):
        draw = torch.randint(count, (count,), generator=seeded("cpu", seed, "bootstrap", index))
        yield torch.bincount(draw, minlength=count)


def weighted_moments(features: Tensor, counts: Tensor, block: int = BLOCK) -> Moments:
    """Moments of features (N, D) with row i taken counts[i] times. No row is copied, and rows of count 0 cost nothing.

    Raises ValueError if a feature is not finite or there are not N counts.
    """
    if counts.shape != features.shape[:1]:
        raise ValueError(f"{len(counts)} counts for {len(features)} rows of features")
    rows = counts.nonzero()[:, 0]
    moments = Moments.none(features[0])
    for chosen in rows.split(tile_rows(features.shape[1], block)):
        exact = features[chosen.to(features.device)].detach().double()
        if not bool(exact.isfinite().all()):
            raise ValueError(f"features hold {int((~exact.isfinite()).sum())} values that are not finite")
        weight = counts[chosen].to(exact)
        total = weight.sum()
        mean = weight @ exact / total
        centred = (exact - mean) * weight.sqrt()[:, None]
        moments = moments.merge(Moments(int(total), mean, centred.T @ centred))
    return moments


def bootstrap(
    statistic: Callable[[Tensor], float], count: int, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Percentile interval of `statistic`, a function of how often each row is taken (count,), int64.

    For FID it is `lambda counts: frechet_distance(reference, weighted_moments(features, counts).gaussian)`.
    Raises ValueError for fewer than two rows, a level outside (0, 1), fewer resamples than the level can tell apart
    (40 at 95%), or a statistic that is not finite.
    """
    if count < 2:
        raise ValueError(f"a bootstrap needs 2 rows or more, there is {count}")
    if not 0 < level < 1:
        raise ValueError(f"level={level}: must lie between 0 and 1")
    least = math.ceil(round(2 / (1 - level), 6))
    if resamples < least:
        raise ValueError(f"resamples={resamples} are too few for level={level}; nearest: resamples={least}")
    estimate = statistic(torch.ones(count, dtype=torch.int64))
    drawn = resampled_counts(count, resamples, seed)
    found = torch.tensor([statistic(counts) for counts in drawn], dtype=torch.float64)
    if not math.isfinite(estimate) or not bool(found.isfinite().all()):
        raise ValueError("the statistic is not finite on some resamples: no interval")
    low, high = found.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)).tolist()
    return Interval(estimate, low, high, float(found.mean()) - estimate)
