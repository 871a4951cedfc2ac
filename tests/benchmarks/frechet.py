"""What one FID costs once the features are there: ours beside SciPy's matrix root and torch-fidelity's.

Two sets of 10,000 features of 2048 numbers like Inception's: not negative, correlated, of variances that fall over
three decades. All get the same means and covariances, and as many threads (OMP_NUM_THREADS and OPENBLAS_NUM_THREADS).
"With its reference" is what a training run pays per evaluation; "cold" also computes the reference's root.

    OMP_NUM_THREADS=2 OPENBLAS_NUM_THREADS=2 python tests/benchmarks/frechet.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from time import perf_counter

import numpy as np
import scipy.linalg
import torch
from torch_fidelity.metric_fid import fid_statistics_to_metric

from gan_core.metrics.fid import Gaussian, frechet_distance
from gan_core.metrics.statistics.moments import Moments

SAMPLES, WIDTH, HIDDEN, REPEATS = 10_000, 2048, 256, 3


def features(seed: int) -> torch.Tensor:
    """(SAMPLES, WIDTH): a ReLU of few causes, mixed, and some noise; another seed is another mixing, slightly."""
    draw, shared = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(1)
    scales = torch.logspace(0, -1.5, HIDDEN)[:, None]
    mixing = torch.randn(HIDDEN, WIDTH, generator=shared) + 0.2 * torch.randn(HIDDEN, WIDTH, generator=draw)
    causes = torch.randn(SAMPLES, HIDDEN, generator=draw)
    noise = torch.randn(SAMPLES, WIDTH, generator=draw) * torch.logspace(0, -3, WIDTH)
    return torch.relu(0.2 * causes @ (scales * mixing) + 0.2 * noise)


def by_scipy(one: Gaussian, other: Gaussian) -> float:
    """The formula as it stands in most FID programs."""
    mu, sigma, mu2, sigma2 = (value.numpy() for value in (one.mean, one.covariance, other.mean, other.covariance))
    root = scipy.linalg.sqrtm(sigma @ sigma2)
    return float(((mu - mu2) ** 2).sum() + np.trace(sigma) + np.trace(sigma2) - 2 * np.trace(root.real))


def by_torch_fidelity(one: Gaussian, other: Gaussian) -> float:
    """Eigenvalues of the product, which is not symmetric."""
    statistics = [{"mu": each.mean.numpy(), "sigma": each.covariance.numpy()} for each in (one, other)]
    return float(fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"])


def cold(one: Gaussian, other: Gaussian) -> float:
    """Ours with nothing computed before."""
    return frechet_distance(Gaussian(one.mean, one.covariance), other)


def timed(distance: Callable[[Gaussian, Gaussian], float], one: Gaussian, other: Gaussian) -> tuple[float, float]:
    """Seconds, the best of REPEATS, and the distance."""
    seconds = []
    for _ in range(REPEATS):
        start = perf_counter()
        found = distance(one, other)
        seconds.append(perf_counter() - start)
    return min(seconds), found


def main() -> None:
    """Prints one line of JSON per way."""
    one, other = (Moments.of(features(seed)).gaussian for seed in (2, 3))
    ways = {
        "ours, with its reference": frechet_distance,
        "ours, cold": cold,
        "torch-fidelity": by_torch_fidelity,
        "scipy.linalg.sqrtm": by_scipy,
    }
    frechet_distance(one, other)  # the reference's root
    ours = None
    for name, distance in ways.items():
        seconds, found = timed(distance, one, other)
        ours = ours or (seconds, found)
        result = {
            "way": name,
            "threads": torch.get_num_threads(),
            "seconds": round(seconds, 3),
            "times_ours": round(seconds / ours[0], 2),
            "fid": round(found, 6),
            "relative_difference": float(f"{found / ours[1] - 1:.1e}"),
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
