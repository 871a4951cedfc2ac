"""The curve of precision against recall, PRD. Sajjadi et al. 2018, arXiv:1806.00035.

Simon et al. 2019 and Djolonga et al. 2020 define the same curve by classifiers and by Gaussians. The clusters of
Sajjadi et al. are taken here, because they need neither training nor a model of the features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_core.metrics.distances import BLOCK, check_features
from gan_core.metrics.memorisation import nearest_neighbours
from gan_core.streams import seeded

CLUSTERS, RUNS, ANGLES, BETA = 20, 10, 1001, 8.0  # as published
_STEPS = 100
"""Most steps of k-means. The published ones end by the number of passes, too."""


@dataclass(frozen=True)
class Curve:
    """Precision and recall, each (ANGLES,) float64 from 0 to 1: the precision that is reached at each recall."""

    precision: Tensor
    recall: Tensor

    def f_beta(self, beta: float = BETA) -> float:
        """The highest F-beta of a point of the curve, 0 to 1: with beta 8 it stands for recall, with 1/8 for precision
        (section 4.2)."""
        weight = beta * beta
        below = weight * self.precision + self.recall
        score = (1 + weight) * self.precision * self.recall / below.clamp(min=torch.finfo(below.dtype).tiny)
        return float(score.max())


def prd(real: Tensor, fake: Tensor) -> Curve:
    """The curve of two distributions over the same K states (K,), which each sum to 1. Equations 7 and 8: at each
    slope, precision is the sum of min(slope * real, fake), and recall is that divided by the slope."""
    angles = torch.linspace(1e-6, math.pi / 2 - 1e-6, ANGLES, dtype=torch.float64)
    slopes = angles.tan()
    precision = torch.minimum(slopes[:, None] * real.double(), fake.double()).sum(dim=1)
    return Curve(precision.clamp(0, 1), (precision / slopes).clamp(0, 1))


def precision_recall_curve(
    real: Tensor, fake: Tensor, clusters: int = CLUSTERS, runs: int = RUNS, block: int = BLOCK
) -> Curve:
    """The mean of `runs` curves of features (N, D) and (M, D): section 4.1.

    In each run k-means parts both sets together, and the states are its clusters. Of the larger set as many are taken
    as the smaller has, because the clusters would else be the larger set's. All draws are from fixed seeds.

    Raises ValueError for values that are not finite, and for fewer features than clusters.
    """
    check_features(real, "real features", clusters)
    check_features(fake, "fake features", clusters, like=real)
    count = min(len(real), len(fake))
    real, fake = (_some(features, count) for features in (real, fake))
    both = torch.cat([real, fake]).double()
    curves = []
    for run in range(runs):
        _, cluster = nearest_neighbours(both, _centres(both, clusters, run, block), block)
        curves.append(
            prd(*(cluster[part].bincount(minlength=clusters) / count for part in (slice(count), slice(count, None))))
        )
    return Curve(
        torch.stack([curve.precision for curve in curves]).mean(dim=0),
        torch.stack([curve.recall for curve in curves]).mean(dim=0),
    )


def _some(features: Tensor, count: int) -> Tensor:
    if len(features) == count:
        return features
    rows = torch.randperm(len(features), generator=seeded("cpu", "prd", "rows"))[:count].sort().values
    return features[rows.to(features.device)]


def _centres(points: Tensor, clusters: int, run: int, block: int) -> Tensor:
    """The centres (K, D) that k-means finds in points (N, D), begun by k-means++ (Arthur & Vassilvitskii 2007)."""
    draw = seeded("cpu", "prd", "centres", run)
    chosen = [int(torch.randint(len(points), (1,), generator=draw))]
    nearest = torch.full((len(points),), torch.inf, dtype=points.dtype, device=points.device)
    for _ in range(clusters - 1):
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).square().sum(dim=1))
        total = nearest.cumsum(0)
        place = torch.rand((), generator=draw, dtype=torch.float64).to(total) * total[-1]
        chosen.append(min(int(torch.searchsorted(total, place, right=True)), len(points) - 1))
    centres = points[chosen]
    before = None
    for _ in range(_STEPS):
        _, cluster = nearest_neighbours(points, centres, block)
        if before is not None and torch.equal(cluster, before):
            break
        before, sizes = cluster, cluster.bincount(minlength=clusters)
        sums = torch.zeros_like(centres).index_add_(0, cluster, points)
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], centres)
    return centres
