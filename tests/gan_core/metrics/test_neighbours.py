"""Distances in tiles, Parzen windows, mode coverage and memorisation."""

import math

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
import torch
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KernelDensity, NearestNeighbors
from torch.testing import assert_close

from gan_core import data
from gan_core.experiment import Data
from gan_core.metrics.coverage import mode_coverage
from gan_core.metrics.distances import squared_distances, tile_rows, tiles
from gan_core.metrics.memorisation import memorisation, nearest_neighbours, share_nearer
from gan_core.metrics.parzen import SIGMAS, log_densities, parzen
from tests.gan_core.metrics.test_measures import drawn, shuffled

# Distances


@pytest.mark.parametrize("size", [1, 32, 33, 500])
@pytest.mark.parametrize("shift", [0, 1e5])
def test_squared_distances_are_scipys(size, shift):
    one, other = drawn(40, size, shift=shift), drawn(30, size, 1, shift=shift)
    wanted = scipy.spatial.distance.cdist(one.numpy(), other.numpy(), "sqeuclidean")
    assert_close(squared_distances(one, other).numpy(), wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [2, 33, 3000])
def test_equal_rows_are_at_distance_zero_and_others_are_not(size):
    one = drawn(40, size, shift=7)
    near = one.clone()
    near[:, 0] += 1e-3
    assert_close(squared_distances(one, one).diagonal(), torch.zeros(40).double(), rtol=0, atol=0)
    assert_close(squared_distances(one, near).diagonal(), torch.full((40,), 1e-6).double(), rtol=1e-4, atol=0)


def test_tiles_make_up_the_whole_and_stay_small():
    one, other = drawn(50, 3).float(), drawn(23, 3, 1).float()
    whole = torch.full((50, 23), torch.nan, dtype=torch.float64)
    for rows, columns, squared in tiles(one, other, block=8):
        assert max(squared.shape) <= 8
        whole[rows, columns] = squared
    assert_close(whole, squared_distances(one.double(), other.double()))
    assert tile_rows(2) == 2048
    assert tile_rows(3 * 256 * 256) * 3 * 256 * 256 <= 2**23
    assert tile_rows(10**9) == 1


# Parzen windows


def kernel_density(samples: torch.Tensor, sigma: float) -> KernelDensity:
    """scikit-learn's, with one leaf. With more, its tree drops samples and is wrong by thousands of nats far from them.

    See scikit-learn's issues 7492 and 27186.
    """
    return KernelDensity(bandwidth=sigma, leaf_size=len(samples)).fit(samples.numpy())


@pytest.mark.parametrize(("size", "sigma"), [(1, 0.3), (2, 0.02), (10, 1.0), (64, 0.15)])
def test_log_densities_are_scikit_learns(size, sigma):
    samples, points = drawn(300, size, shift=2), drawn(40, size, 1, shift=2)
    wanted = kernel_density(samples, sigma).score_samples(points.numpy())
    for block in (1, 7, 4096):
        found = log_densities(points, samples, (sigma,), block)[0]
        assert_close(found.numpy(), wanted, rtol=1e-9, atol=1e-9)


def test_the_density_of_one_window_is_a_gaussian():
    wanted = scipy.stats.multivariate_normal([1, 2], 0.25 * np.eye(2)).logpdf([[1, 2], [0, 0], [40, 2]])
    points = torch.tensor([[1.0, 2.0], [0.0, 0.0], [40.0, 2.0]])
    assert_close(log_densities(points, points[:1], (0.5,))[0].numpy(), wanted)


def test_the_window_is_the_one_that_suits_the_validation_points():
    samples, validation, test = drawn(200, 3), drawn(50, 3, 1), drawn(60, 3, 2)
    sigmas = (0.05, 0.2, 0.4, 0.8, 3.0)
    means = [kernel_density(samples, sigma).score(validation.numpy()) for sigma in sigmas]
    best = sigmas[int(np.argmax(means))]
    found = parzen(samples, validation, test, sigmas)
    wanted = kernel_density(samples, best).score_samples(test.numpy())
    assert (found.sigma, found.on_edge) == (best, False)
    assert best not in (0.05, 3.0)
    assert found.mean == pytest.approx(wanted.mean(), rel=1e-9)
    assert found.standard_error == pytest.approx(scipy.stats.sem(wanted), rel=1e-9)


def test_the_likelihood_does_not_depend_on_order_or_block():
    sets = drawn(90, 40), drawn(50, 40, 1), drawn(60, 40, 2)
    wanted = parzen(*sets)
    for block in (7, 4096):
        found = parzen(*map(shuffled, sets), block=block)
        assert (found.mean, found.standard_error) == pytest.approx((wanted.mean, wanted.standard_error), rel=1e-11)
        assert found.sigma == wanted.sigma


def test_a_window_at_the_end_of_those_tried_is_told():
    """If validation points are copies of samples, the best width is the smallest."""
    samples = drawn(50, 2)
    assert parzen(samples, samples, drawn(50, 2, 1)).on_edge
    assert parzen(samples, drawn(50, 2, 1), drawn(50, 2, 2), sigmas=(1.0, 5.0)).on_edge
    assert not parzen(samples, samples, drawn(50, 2, 1), sigmas=(0.1,)).on_edge
    assert (min(SIGMAS), max(SIGMAS)) == pytest.approx((1e-3, 10))


def test_what_has_no_likelihood_is_an_error():
    points = drawn(9, 2)
    for sigmas in ((), (0.0,), (1.0, math.nan), (math.inf,)):
        with pytest.raises(ValueError, match="widths must be above 0"):
            parzen(points, points, points, sigmas)
    with pytest.raises(ValueError, match="test points: 2 or more are needed, there is 1"):
        parzen(points, points, points[:1])
    with pytest.raises(ValueError, match="points: 1 or more are needed, there is 0"):
        parzen(points, points[:0], points)
    with pytest.raises(ValueError, match="samples hold 18 values that are not finite"):
        parzen(points / 0, points, points)


# Mode coverage


def test_modes_by_hand():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    samples = torch.tensor([[0.1, 0.0], [0.0, 2.9], [0.0, 3.1], [10.0, 1.0], [4.0, 4.0]])
    found = mode_coverage(samples, centres, sigma=1.0)
    assert (found.modes, found.high_quality) == (2, 3 / 5)
    assert found.per_mode.tolist() == [2, 1, 0]
    assert mode_coverage(samples, centres, sigma=1.0, hits=2).modes == 1
    assert mode_coverage(samples, centres, sigma=1.0, radius=3.2).per_mode.tolist() == [3, 1, 0]
    assert mode_coverage(samples + 100, centres, sigma=1.0).modes == 0


@pytest.mark.parametrize(("name", "modes", "sigma"), [("ring8", 8, 0.02), ("grid25", 25, 0.05 / 2.828)])
def test_true_samples_cover_their_mixture(name, modes, sigma):
    """In two dimensions 1 - exp(-9/2) of a Gaussian is within 3 sigma. Each mode has 1,000 points."""
    mixture = data.load(Data(name=name))
    centres = torch.stack([mixture.images[mixture.labels == mode].mean(0) for mode in range(modes)])
    found = mode_coverage(mixture.images, centres, sigma)
    assert found.modes == modes
    assert found.high_quality == pytest.approx(1 - math.exp(-4.5), abs=0.004)
    assert found.per_mode.sum() == round(found.high_quality * len(mixture.images))
    collapsed = mode_coverage(mixture.images[mixture.labels == 3], centres, sigma)
    assert collapsed.modes == 1
    assert int(collapsed.per_mode.argmax()) == 3


def test_modes_do_not_depend_on_order_or_block():
    samples, centres = drawn(200, 2, scale=3), drawn(20, 2, 1, scale=3)
    wanted = mode_coverage(samples, centres, 0.3)
    for block in (1, 7, 4096):
        found = mode_coverage(shuffled(samples), centres, 0.3, block=block)
        assert (found.modes, found.high_quality) == (wanted.modes, wanted.high_quality)
        assert_close(found.per_mode, wanted.per_mode)


def test_modes_of_nothing_are_an_error():
    centres = drawn(3, 2)
    for wrong in (dict(sigma=0.0), dict(sigma=1.0, radius=-1.0), dict(sigma=1.0, hits=0), dict(sigma=math.nan)):
        with pytest.raises(ValueError, match="must be above 0"):
            mode_coverage(centres, centres, **wrong)
    with pytest.raises(ValueError, match="samples: 1 or more are needed"):
        mode_coverage(centres[:0], centres, 1.0)
    with pytest.raises(ValueError, match="samples hold 6 values that are not finite"):
        mode_coverage(centres * math.nan, centres, 1.0)


# Memorisation


@pytest.mark.parametrize("size", [2, 300])
def test_nearest_neighbours_are_scikit_learns(size):
    queries, train = drawn(60, size, shift=9), drawn(80, size, 1, shift=9)
    wanted, where = NearestNeighbors(n_neighbors=1).fit(train.numpy()).kneighbors(queries.numpy())
    for block in (1, 7, 4096):
        found, index = nearest_neighbours(queries, train, block)
        assert_close(found.numpy(), wanted[:, 0], rtol=1e-12, atol=0)
        assert index.tolist() == where[:, 0].tolist()


def test_the_share_nearer_is_the_area_under_scikit_learns_curve():
    ones, others = drawn(50, 1)[:, 0].round(decimals=1), drawn(70, 1, 1)[:, 0].round(decimals=1)
    truth = np.concatenate([np.zeros(50), np.ones(70)])
    wanted = roc_auc_score(truth, torch.cat([ones, others]).numpy())
    assert share_nearer(ones, others) == pytest.approx(wanted, rel=1e-12)
    wanted = scipy.stats.mannwhitneyu(others.numpy(), ones.numpy()).statistic / 50 / 70
    assert share_nearer(ones, others) == pytest.approx(wanted, rel=1e-12)


def test_memorisation_by_hand():
    """Samples are 0.5, 0 and 4 away from the nearest training point, held-out images 1 and 2."""
    train = torch.tensor([[0.0], [10.0], [20.0]])
    found = memorisation(torch.tensor([[9.5], [20.0], [4.0]]), train, torch.tensor([[1.0], [12.0]]), pairs=2)
    assert (found.sample_median, found.held_out_median, found.ratio) == (0.5, 1.5, 0.5 / 1.5)
    assert found.nearer == pytest.approx(4 / 6)
    assert found.closest.tolist() == [[1, 2], [0, 1]]
    assert found.distances.tolist() == [0, 0.5]


@pytest.mark.parametrize("size", [2, 40])
def test_copies_true_samples_and_bad_ones_are_told_apart(size):
    train, held_out = drawn(400, size), drawn(300, size, 1)
    copied = memorisation(train[:200] + drawn(200, size, 2, scale=1e-4), train, held_out)
    assert copied.nearer > 0.98
    assert copied.ratio < 0.02
    assert (copied.closest[:, 0] == copied.closest[:, 1]).all()
    true = memorisation(drawn(300, size, 2), train, held_out)
    assert true.nearer == pytest.approx(0.5, abs=0.07)
    assert true.ratio == pytest.approx(1, abs=0.15)
    assert memorisation(drawn(300, size, 2) + 9, train, held_out).nearer < 0.01


def test_memorisation_does_not_depend_on_order_or_block():
    samples, train, held_out = drawn(60, 40), drawn(70, 40, 1), drawn(50, 40, 2)
    wanted = memorisation(samples, train, held_out)
    for block in (1, 7, 4096):
        found = memorisation(shuffled(samples), shuffled(train), shuffled(held_out), block=block)
        assert (found.ratio, found.nearer) == pytest.approx((wanted.ratio, wanted.nearer), rel=1e-12)
        assert_close(found.distances, wanted.distances)
        pairs = shuffled(samples)[found.closest[:, 0]], shuffled(train)[found.closest[:, 1]]
        assert_close(pairs, (samples[wanted.closest[:, 0]], train[wanted.closest[:, 1]]))


def test_what_cannot_be_compared_is_an_error():
    train = drawn(50, 3)
    with pytest.raises(ValueError, match="half or more of the held-out images are copies"):
        memorisation(drawn(9, 3), train, train[:10])
    with pytest.raises(ValueError, match="held-out images: 1 or more are needed, there is 0"):
        memorisation(drawn(9, 3), train, train[:0])
    with pytest.raises(ValueError, match="samples hold 27 values that are not finite"):
        memorisation(drawn(9, 3) * math.nan, train, drawn(9, 3))
    with pytest.raises(ValueError, match="samples are 4 wide"):
        memorisation(drawn(9, 4), train, drawn(9, 3))
