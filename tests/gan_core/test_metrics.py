import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch.testing import assert_close

from gan_core import streams
from gan_core.metrics.fid import frechet_distance, root
from gan_core.metrics.reference import sample_range
from gan_core.metrics.statistics import Moments
from tests.gan_core.games import new_game, play, small


def features(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """Correlated features off the origin, each coordinate with its own scale."""
    draw = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=draw, dtype=torch.float64) * torch.logspace(-2, 1, size).double()
    return torch.randn(count, size, generator=draw, dtype=torch.float64) @ mixing + 50


def by_schur(product: np.ndarray) -> float:
    """The trace of a root, by SciPy's general matrix root."""
    return float(np.trace(scipy.linalg.sqrtm(product).real))


def by_eigenvalues(product: np.ndarray) -> float:
    """The same for a singular product, which has no reliable matrix root: eigenvalues of a general matrix."""
    return float(np.sqrt(scipy.linalg.eigvals(product).real.clip(0)).sum())


def by_scipy(one: torch.Tensor, other: torch.Tensor, trace_of_root=by_schur) -> float:
    """Heusel et al. 2017, equation 6, with numpy.cov."""
    one, other = one.double().numpy(), other.double().numpy()
    covariances = [np.atleast_2d(np.cov(each, rowvar=False)) for each in (one, other)]
    shared = trace_of_root(covariances[0] @ covariances[1])
    apart = one.mean(0) - other.mean(0)
    return float(apart @ apart + sum(map(np.trace, covariances)) - 2 * shared)


def gaussian(mean, covariance, count: int = 1001) -> Moments:
    covariance = torch.as_tensor(covariance, dtype=torch.float64)
    return Moments(count, torch.as_tensor(mean, dtype=torch.float64), covariance * (count - 1))


# Moments


@pytest.mark.parametrize("cuts", [[], [1], [37], [1, 2, 3], [5, 100, 101, 180], list(range(1, 200))])
def test_moments_merged_from_any_split_are_numpys(cuts):
    values = features(200, 6)
    parts = [Moments.of(part) for part in values.tensor_split(cuts)]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.merge(part)
    assert whole.count == 200
    assert_close(whole.mean.numpy(), values.numpy().mean(0), rtol=1e-12, atol=0)
    assert_close(whole.covariance.numpy(), np.cov(values.numpy(), rowvar=False), rtol=1e-12, atol=1e-12)


def test_merging_keeps_its_digits_far_from_the_origin():
    """A sum of squares minus a square of sums would have none left at 1e8."""
    values = features(100, 3) + 1e8
    merged = Moments.of(values[:30]).merge(Moments.of(values[30:]))
    assert_close(merged.covariance.numpy(), np.cov((values - 1e8).numpy(), rowvar=False), rtol=1e-6, atol=1e-6)


def test_moments_are_float64_whatever_the_features_are():
    assert Moments.of(features(10, 3).float()).scatter.dtype == torch.float64
    assert Moments.of(features(10, 3).bfloat16()).mean.dtype == torch.float64


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_features_that_are_no_numbers_are_an_error(bad):
    values = features(10, 3)
    values[4, 1] = bad
    with pytest.raises(ValueError, match="1 values that are not finite"):
        Moments.of(values)


def test_one_sample_has_no_covariance():
    with pytest.raises(ValueError, match="2 samples or more, there is 1"):
        frechet_distance(Moments.of(features(1, 3)), Moments.of(features(9, 3)))


# Fréchet distance


@pytest.mark.parametrize(("count", "size"), [(500, 1), (500, 7), (2000, 64)])
def test_the_distance_is_scipys(count, size):
    one, other = features(count, size), 1.3 * features(count // 2, size, seed=1) - 12
    found = frechet_distance(Moments.of(one), Moments.of(other))
    assert found == pytest.approx(by_scipy(one, other), rel=1e-6)


def test_the_distance_of_diagonal_gaussians_is_its_closed_form():
    """|m - m'|^2 + sum (s - s')^2."""
    one = gaussian([0.0, 1.0, 5.0], np.diag([4.0, 9.0, 0.25]))
    other = gaussian([3.0, 1.0, 1.0], np.diag([1.0, 9.0, 16.0]))
    assert frechet_distance(one, other) == pytest.approx(9 + 16 + 1 + 0 + 3.5**2, rel=1e-12)


def test_the_distance_of_commuting_covariances_is_its_closed_form():
    axes = scipy.stats.ortho_group.rvs(5, random_state=0)
    spreads = np.array([[1.0, 2.0, 3.0, 0.5, 0.0], [2.0, 2.0, 0.0, 1.5, 0.0]])
    one, other = (gaussian(np.zeros(5), axes @ np.diag(s**2) @ axes.T) for s in spreads)
    wanted = float(((spreads[0] - spreads[1]) ** 2).sum())
    assert frechet_distance(one, other) == pytest.approx(wanted, rel=1e-6)


def test_the_distance_is_symmetric_and_zero_only_at_itself():
    one, other = Moments.of(features(300, 8)), Moments.of(features(300, 8, seed=1))
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9 * float(one.covariance.trace()))
    assert frechet_distance(one, other) > 1
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one), rel=1e-9)


@pytest.mark.parametrize("count", [2, 10, 63])
def test_fewer_samples_than_features(count):
    """By singular values: tr (C C')^(1/2) is the nuclear norm of A A'^T for C = A^T A, C' = A'^T A'."""
    one, other = features(count, 64), features(count + 5, 64, seed=1)
    halves = [(each - each.mean(0)).numpy() / math.sqrt(len(each) - 1) for each in (one, other)]
    shared = np.linalg.svd(halves[0] @ halves[1].T, compute_uv=False).sum()
    apart = float((one.mean(0) - other.mean(0)).square().sum())
    wanted = apart + sum(float((half**2).sum()) for half in halves) - 2 * shared
    found = frechet_distance(Moments.of(one), Moments.of(other))
    assert found == pytest.approx(wanted, rel=1e-6)


def test_points_without_any_spread():
    still = gaussian([3.0, 4.0], np.zeros((2, 2)))
    assert frechet_distance(still, gaussian([0.0, 0.0], np.zeros((2, 2)))) == pytest.approx(25)
    assert frechet_distance(still, gaussian([0.0, 0.0], np.eye(2))) == pytest.approx(27)


def test_the_root_squared_is_the_covariance():
    covariance = Moments.of(features(5, 9)).covariance
    half = root(covariance)
    assert_close(half @ half, covariance, rtol=1e-9, atol=1e-9 * float(covariance.trace()))
    assert_close(half, half.T)


# FID


def test_noise_scores_badly_and_real_digits_well(reference, digits):
    draw = torch.Generator().manual_seed(0)
    noise = torch.rand(digits.images.shape, generator=draw) * 2 - 1
    assert frechet_distance(reference.moments, Moments.of(reference.extractor.features(noise))) > 2000
    for _ in range(3):
        halves = digits.images[torch.randperm(1797, generator=draw)].tensor_split(2)
        one, other = (Moments.of(reference.extractor.features(half)) for half in halves)
        assert 0 < frechet_distance(one, other) < 60


def test_a_generator_of_one_image_scores_badly(reference, digits):
    """Mode collapse, onto each of three real digits."""
    for index in (0, 1, 2):
        features = reference.extractor.features(digits.images[[index] * 300])
        assert frechet_distance(reference.moments, Moments.of(features)) > 1000


@pytest.mark.parametrize("samples", [2, 100, 300, None])
def test_fid_is_that_of_its_samples_in_batches_of_any_size(reference, samples):
    game = new_game(small("wgan"))
    play(game, 1)
    count = samples or 1797
    z = streams.latents(0, "evaluation", 0, count, 8, game.device, torch.float32)
    values = torch.cat([reference.extractor.features(game.sample(part)) for part in z.split(77)])
    found = reference.fid(game, samples)
    assert found == pytest.approx(frechet_distance(reference.moments, Moments.of(values)), rel=1e-6)
    assert found > 100


def test_fid_is_scipys(reference, digits):
    game = new_game(small("dcgan"))
    play(game, 5)
    fake = reference.extractor.features(torch.cat([sample_range(game, a, a + 100) for a in range(0, 400, 100)]))
    wanted = by_scipy(reference.extractor.features(digits.images), fake, by_eigenvalues)
    assert reference.fid(game, 400) == pytest.approx(wanted, rel=1e-5)


def test_a_generator_of_nan_is_an_error_and_no_number(reference):
    game = new_game(small("wgan"))
    for weight in game.average.parameters():
        weight.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        reference.fid(game, 10)


def test_evaluating_changes_nothing(reference):
    one, other = new_game(small("dcgan")), new_game(small("dcgan"))
    play(one, 2)
    play(other, 1)
    reference.fid(other, 50)
    play(other, 1)
    assert reference.fid(one, 50) == reference.fid(other, 50)
