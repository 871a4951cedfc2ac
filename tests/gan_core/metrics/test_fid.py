"""The Fréchet distance against closed forms, SciPy's matrix root and torch-fidelity. For games see test_metrics."""

import math
from functools import reduce

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from torch.testing import assert_close
from torch_fidelity.metric_fid import fid_statistics_to_metric

from gan_core.metrics.fid import Gaussian, frechet_distance
from gan_core.metrics.statistics.moments import Moments


def features(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """Correlated features away from the origin, with another scale in each coordinate."""
    draw = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=draw, dtype=torch.float64) * torch.logspace(-2, 1, size).double()
    return torch.randn(count, size, generator=draw, dtype=torch.float64) @ mixing + 50


def gaussian(mean, covariance) -> Gaussian:
    return Gaussian(*(torch.as_tensor(value, dtype=torch.float64) for value in (mean, covariance)))


def fitted(values: torch.Tensor) -> Gaussian:
    return Moments.of(values).gaussian


def by_scipy(one: torch.Tensor, other: torch.Tensor) -> float:
    """Heusel et al. 2017, equation 6, with numpy.cov and SciPy's root of the product of the covariances."""
    one, other = one.double().numpy(), other.double().numpy()
    covariances = [np.atleast_2d(np.cov(each, rowvar=False)) for each in (one, other)]
    shared = np.trace(scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real)
    apart = one.mean(0) - other.mean(0)
    return float(apart @ apart + sum(map(np.trace, covariances)) - 2 * shared)


def by_singular_values(one: torch.Tensor, other: torch.Tensor) -> float:
    """tr (C C')^(1/2) is the nuclear norm of A A'^T for C = A^T A, C' = A'^T A': exact for any rank."""
    halves = [(each - each.mean(0)).numpy() / math.sqrt(len(each) - 1) for each in (one, other)]
    shared = np.linalg.svd(halves[0] @ halves[1].T, compute_uv=False).sum()
    apart = float((one.mean(0) - other.mean(0)).square().sum())
    return apart + sum(float((half**2).sum()) for half in halves) - 2 * float(shared)


# Closed forms


def test_of_numbers_it_is_that_of_means_and_deviations():
    """(m - m')^2 + (s - s')^2."""
    assert frechet_distance(gaussian([2.0], [[9.0]]), gaussian([-1.5], [[0.25]])) == pytest.approx(3.5**2 + 2.5**2)


def test_of_diagonal_covariances_it_is_that_of_each_coordinate():
    one = gaussian([0.0, 1.0, 5.0], np.diag([4.0, 9.0, 0.25]))
    other = gaussian([3.0, 1.0, 1.0], np.diag([1.0, 9.0, 16.0]))
    assert frechet_distance(one, other) == pytest.approx(9 + 16 + 1 + 0 + 3.5**2, rel=1e-12)


@pytest.mark.parametrize("size", [5, 300])
def test_of_commuting_covariances_it_is_that_of_their_deviations(size):
    """Some variances are zero in one Gaussian, some in the other, some in both."""
    axes = scipy.stats.ortho_group.rvs(size, random_state=0)
    number = np.arange(size) % 4
    spreads = np.random.default_rng(0).uniform(0.1, 3, (2, size)) * [number < 2, number % 2 == 0]
    one, other = (gaussian(np.zeros(size), axes * s**2 @ axes.T) for s in spreads)
    assert frechet_distance(one, other) == pytest.approx(((spreads[0] - spreads[1]) ** 2).sum(), rel=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_of_the_plane_it_is_by_trace_and_determinant(seed):
    """tr (C C')^(1/2) = (tr C C' + 2 (det C det C')^(1/2))^(1/2) for 2 by 2."""
    one, other = features(5, 2, seed), features(9, 2, seed + 9)
    covariances = [np.cov(each.numpy(), rowvar=False) for each in (one, other)]
    determinants = math.prod(float(np.linalg.det(each)) for each in covariances)
    shared = math.sqrt(float(np.trace(covariances[0] @ covariances[1])) + 2 * math.sqrt(determinants))
    apart = float((one.mean(0) - other.mean(0)).square().sum())
    wanted = apart + sum(map(np.trace, covariances)) - 2 * shared
    assert frechet_distance(fitted(one), fitted(other)) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(("count", "size"), [(2, 3), (20, 300), (299, 300), (1000, 300)])
def test_a_set_moved_is_as_far_as_it_moved(count, size):
    """Also with fewer samples than features, where the product of the covariances has eigenvalues of zero."""
    values = features(count, size)
    shift = torch.linspace(-1, 1, size, dtype=torch.float64)
    spread = float(fitted(values).covariance.trace())
    found = frechet_distance(fitted(values), fitted(values + shift))
    assert found == pytest.approx(float(shift.square().sum()), abs=1e-12 * spread)


def test_of_points_without_any_spread_it_is_their_distance():
    still = gaussian([3.0, 4.0], np.zeros((2, 2)))
    assert frechet_distance(still, gaussian([0.0, 0.0], np.zeros((2, 2)))) == pytest.approx(25)
    assert frechet_distance(still, gaussian([0.0, 0.0], np.eye(2))) == pytest.approx(27)
    assert frechet_distance(gaussian([0.0, 0.0], np.eye(2)), still) == pytest.approx(27)


def test_it_is_symmetric_and_zero_only_to_itself():
    one, other = fitted(features(300, 8)), fitted(features(300, 8, seed=1))
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-12 * float(one.covariance.trace()))
    assert frechet_distance(one, other) > 1
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one), rel=1e-12)


# Other implementations


@pytest.mark.filterwarnings("ignore:Matrix is singular")
@pytest.mark.parametrize(("count", "size"), [(500, 1), (500, 7), (2000, 64), (9, 64), (63, 64), (2, 5)])
def test_it_is_scipys(count, size):
    one, other = features(count, size), 1.3 * features(count + 5, size, seed=1) - 12
    assert frechet_distance(fitted(one), fitted(other)) == pytest.approx(by_scipy(one, other), rel=1e-6)


@pytest.mark.parametrize(("count", "size"), [(500, 7), (2000, 64), (9, 64), (63, 64), (2, 5)])
def test_it_is_torch_fidelitys(count, size):
    one, other = features(count, size), 1.3 * features(count + 5, size, seed=1) - 12
    statistics = [{"mu": each.numpy().mean(0), "sigma": np.cov(each.numpy(), rowvar=False)} for each in (one, other)]
    wanted = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(fitted(one), fitted(other)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(("count", "others"), [(2, 3), (10, 15), (63, 68), (10, 900), (900, 10), (900, 64)])
def test_with_fewer_samples_than_features_it_is_exact(count, others):
    one, other = features(count, 64), features(others, 64, seed=1)
    found = frechet_distance(fitted(one), fitted(other))
    assert found == pytest.approx(by_singular_values(one, other), rel=1e-11)


def test_small_eigenvalues_of_a_full_rank_count():
    """Scales over five decades in rotated axes: the smallest eigenvalues of the product are 1e-20 of the largest."""
    scales, draw = torch.logspace(0, -5, 300).double(), torch.Generator().manual_seed(0)
    axes = torch.from_numpy(scipy.stats.ortho_group.rvs(300, random_state=0))
    one, other = (torch.randn(2000, 300, generator=draw, dtype=torch.float64) * scales @ axes for _ in range(2))
    found = frechet_distance(fitted(one), fitted(other))
    halves = [np.linalg.qr((each - each.mean(0)).numpy(), mode="r") / math.sqrt(1999) for each in (one, other)]
    shared = np.linalg.svd(halves[0] @ halves[1].T, compute_uv=False).sum()
    wanted = float((one.mean(0) - other.mean(0)).square().sum()) + sum((h**2).sum() for h in halves) - 2 * shared
    assert found == pytest.approx(wanted, rel=1e-10)


# Gaussians


@pytest.mark.parametrize("batch", [1, 7, 512])
def test_features_in_batches_of_any_size_give_the_same_distance(batch):
    one, other = features(1000, 32), features(1100, 32, seed=1)
    streamed = [reduce(Moments.merge, map(Moments.of, each.split(batch))).gaussian for each in (one, other)]
    assert frechet_distance(*streamed) == pytest.approx(frechet_distance(fitted(one), fitted(other)), rel=1e-9)


@pytest.mark.parametrize("batch", [7, 512])
def test_a_rank_is_found_in_streamed_moments_too(batch):
    """10,000 samples that lie in 40 of 200 dimensions, far from the origin."""
    draw = torch.Generator().manual_seed(0)
    axes = torch.randn(40, 200, generator=draw, dtype=torch.float64)
    values = torch.randn(10000, 40, generator=draw, dtype=torch.float64) @ axes + 100
    streamed = reduce(Moments.merge, map(Moments.of, values.split(batch))).gaussian
    assert streamed.root.shape == (200, 40)
    assert frechet_distance(streamed, fitted(values + 1)) == pytest.approx(200, rel=1e-9)


@pytest.mark.parametrize(("count", "rank"), [(2, 1), (5, 4), (9, 8), (10, 9), (50, 9)])
def test_the_root_times_itself_is_the_covariance(count, rank):
    found = fitted(features(count, 9))
    assert found.root.shape == (9, rank)
    assert_close(found.root @ found.root.T, found.covariance, rtol=1e-9, atol=1e-9 * float(found.covariance.trace()))


def test_a_references_root_is_computed_once(monkeypatch):
    calls = []
    eigh = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: calls.append(matrix) or eigh(matrix))
    moments = Moments.of(features(100, 5))
    for seed in range(3):
        frechet_distance(moments.gaussian, fitted(features(100, 5, seed)))
    assert len(calls) == 1


def test_on_a_device_it_is_the_same():
    found = fitted(features(9, 5)).to("cpu")
    assert_close(found.mean, features(9, 5).mean(0))
    assert frechet_distance(found, fitted(features(9, 5))) == pytest.approx(0, abs=1e-9)
    assert found.to(torch.device("meta")).covariance.device.type == "meta"


# Errors


def test_one_sample_has_no_gaussian():
    with pytest.raises(ValueError, match="2 samples or more, there is 1"):
        fitted(features(1, 3))


def test_features_of_another_width_are_an_error():
    with pytest.raises(ValueError, match="features are 4 wide, the reference's 3"):
        frechet_distance(fitted(features(9, 3)), fitted(features(9, 4)))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_an_error(bad):
    whole = gaussian([0.0, 0.0], np.eye(2))
    holed = gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, bad]])
    with pytest.raises(ValueError, match="the mean or covariance of the features is not finite"):
        frechet_distance(whole, holed)
    with pytest.raises(ValueError, match="the mean or covariance of the reference is not finite"):
        frechet_distance(holed, whole)
    with pytest.raises(ValueError, match="the mean or covariance of the features is not finite"):
        frechet_distance(whole, gaussian([0.0, bad], np.eye(2)))
