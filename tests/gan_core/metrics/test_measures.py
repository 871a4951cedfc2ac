"""KID, Inception Score, precision and recall."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors
from torch.testing import assert_close

from gan_core.metrics.inception_score import Predictions, inception_score, split_of
from gan_core.metrics.pairs.kid import kid, kid_over, squared_mmd, subset_rows
from gan_core.metrics.pairs.precision_recall import PrecisionRecall, precision_recall


def drawn(count: int, size: int, seed: int = 0, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=draw, dtype=torch.float64) * scale + shift


def shuffled(rows: torch.Tensor, seed: int = 9) -> torch.Tensor:
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]


# KID


def by_sklearn(real: torch.Tensor, fake: torch.Tensor) -> float:
    """Gretton et al. 2012, equation 3, on whole kernel matrices."""
    kernels = [
        polynomial_kernel(a.numpy(), b.numpy(), degree=3, coef0=1)
        for a, b in ((real, real), (fake, fake), (real, fake))
    ]
    own = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in kernels[:2]]
    return float(sum(own) - 2 * kernels[2].mean())


@pytest.mark.parametrize(("size", "shift"), [(1, 0), (5, 0), (64, 3), (300, -1)])
def test_squared_mmd_is_scikit_learns(size, shift):
    real, fake = drawn(120, size, shift=shift), drawn(90, size, 1, scale=1.2, shift=shift)
    assert squared_mmd(real, fake) == pytest.approx(by_sklearn(real, fake), rel=1e-9)


def test_squared_mmd_of_two_points_each_by_hand():
    """For {0, 1} and {1, 2} it is 1 + 27 - 2 (1 + 1 + 8 + 27) / 4."""
    real, fake = torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [2.0]])
    assert squared_mmd(real, fake) == pytest.approx(1 + 27 - 2 * (1 + 1 + 8 + 27) / 4)


def test_squared_mmd_does_not_depend_on_order_or_block():
    real, fake = drawn(130, 8), drawn(101, 8, 1, shift=0.3)
    wanted = squared_mmd(real, fake)
    for block in (1, 7, 100, 4096):
        assert squared_mmd(shuffled(real), shuffled(fake), block) == pytest.approx(wanted, rel=1e-11)


def test_kid_is_the_mean_and_deviation_over_its_subsets():
    real, fake = drawn(70, 6), drawn(90, 6, 1, shift=0.5)
    rows = list(subset_rows(70, 90, subsets=12, size=40, seed=3))
    wanted = [by_sklearn(real[one], fake[other]) for one, other in rows]
    found = kid(real, fake, subsets=12, subset_size=40, seed=3)
    assert found == kid_over(real, fake, rows)
    assert found.mean == pytest.approx(np.mean(wanted), rel=1e-9)
    assert found.std == pytest.approx(np.std(wanted), rel=1e-9)


def test_subsets_are_drawn_without_replacement_and_by_number():
    rows = list(subset_rows(70, 90, subsets=5, size=40, seed=3))
    assert all(len(one.unique()) == len(other.unique()) == 40 for one, other in rows)
    assert_close(next(subset_rows(70, 90, subsets=1, size=40, seed=3)), rows[0])
    assert not rows[0][0].equal(rows[1][0])
    assert not rows[0][0].equal(next(subset_rows(70, 90, subsets=1, size=40, seed=4))[0])


def test_kid_of_one_distribution_is_around_zero():
    """It is unbiased: the mean over disjoint pairs of sets is within its standard error of 0, and some are negative."""
    found = torch.tensor([squared_mmd(drawn(50, 4, 2 * i), drawn(50, 4, 2 * i + 1)) for i in range(200)])
    assert abs(float(found.mean())) < 3 * float(found.std()) / math.sqrt(200)
    assert float(found.min()) < 0 < float(found.max())


def test_kid_of_a_whole_set_as_its_only_subset_has_no_deviation():
    real, fake = drawn(30, 4), drawn(30, 4, 1)
    found = kid(real, fake, subsets=3, subset_size=30)
    assert found.mean == pytest.approx(squared_mmd(real, fake), rel=1e-9)
    assert found.std == pytest.approx(0, abs=1e-12)


def test_a_subset_larger_than_a_set_names_the_nearest_size():
    with pytest.raises(ValueError, match="subset_size=1000 with 1797 real and 700 fake.*nearest: subset_size=700"):
        kid(drawn(1797, 2), drawn(700, 2))
    with pytest.raises(ValueError, match="nearest: subset_size=2"):
        kid(drawn(17, 2), drawn(10, 2), subset_size=1)
    with pytest.raises(ValueError, match="nearest: subsets=1"):
        kid(drawn(17, 2), drawn(10, 2), subsets=0, subset_size=10)


# Invalid features


MEASURES = [kid, squared_mmd, precision_recall]


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_features_that_are_no_numbers_are_an_error(measure, bad):
    broken = drawn(20, 3)
    broken[4, 1] = bad
    with pytest.raises(ValueError, match="real features hold 1 values that are not finite"):
        measure(broken, drawn(20, 3))
    with pytest.raises(ValueError, match="fake features hold 1 values that are not finite"):
        measure(drawn(20, 3), broken)


@pytest.mark.parametrize("measure", MEASURES)
def test_one_image_is_an_error(measure):
    with pytest.raises(ValueError, match="fake features: . or more are needed, there is 1"):
        measure(drawn(20, 3), drawn(1, 3))


@pytest.mark.parametrize("measure", MEASURES)
def test_sets_of_two_shapes_are_an_error(measure):
    with pytest.raises(ValueError, match="fake features are 4 wide, what they are measured against 3"):
        measure(drawn(20, 3), drawn(20, 4))
    with pytest.raises(ValueError, match=r"real features are of shape \(20, 1, 3\)"):
        measure(drawn(20, 3)[:, None], drawn(20, 3))


# Inception Score


def by_numpy(logits: torch.Tensor, splits: int) -> tuple[float, float]:
    """The original code: improved-gan/inception_score/model.py."""
    predictions = logits.double().softmax(1).numpy()
    scores = []
    for i in range(splits):
        part = predictions[(i * len(predictions) // splits) : ((i + 1) * len(predictions) // splits), :]
        kl = part * (np.log(part) - np.log(np.expand_dims(np.mean(part, 0), 0)))
        scores.append(np.exp(np.mean(np.sum(kl, 1))))
    return float(np.mean(scores)), float(np.std(scores))


@pytest.mark.parametrize(("count", "splits"), [(500, 10), (503, 10), (21, 10), (2, 1), (47, 3)])
def test_the_score_is_the_original_codes(count, splits):
    logits = drawn(count, 12, scale=3)
    for given in (logits, logits.log_softmax(1), logits + 700):
        found = inception_score(given, splits, seed=None)
        assert (found.mean, found.std) == pytest.approx(by_numpy(logits, splits), rel=1e-9, abs=1e-12)


def test_the_score_of_certain_and_even_guesses_is_the_number_of_classes():
    certain = torch.eye(5).repeat(40, 1).log()
    found = inception_score(certain, splits=1)
    assert (found.mean, found.std) == pytest.approx((5, 0))


def test_the_score_of_guesses_that_do_not_differ_is_one():
    found = inception_score(drawn(1, 7).repeat(30, 1), splits=3)
    assert (found.mean, found.std) == pytest.approx((1, 0))


def test_images_sorted_by_class_are_dealt_out_unless_told():
    certain = torch.eye(5).repeat_interleave(100, 0).log()
    assert inception_score(certain, splits=5, seed=None).mean == pytest.approx(1)
    assert inception_score(certain, splits=5).mean == pytest.approx(5, rel=0.05)
    assert inception_score(certain, splits=5) == inception_score(certain, splits=5, seed=2020)
    assert split_of(503, 10).bincount().sort().values.tolist() == [50] * 7 + [51] * 3


@pytest.mark.parametrize("cuts", [[1], [250], [3, 100, 101, 400]])
def test_predictions_in_parts_score_like_the_whole(cuts):
    logits, split = drawn(500, 12, scale=2), split_of(500)
    parts = [Predictions.of(*part) for part in zip(logits.tensor_split(cuts), split.tensor_split(cuts), strict=True)]
    merged = parts[0]
    for part in parts[1:]:
        merged = part.merge(merged)
    wanted = inception_score(logits)
    assert (merged.score().mean, merged.score().std) == pytest.approx((wanted.mean, wanted.std), rel=1e-12)
    if cuts == [1]:
        with pytest.raises(ValueError, match="a split holds 0 images"):
            parts[0].score()


def test_logits_that_are_none_are_an_error():
    logits = drawn(40, 5)
    for bad in (math.nan, math.inf):
        logits[3, 2] = bad
        with pytest.raises(ValueError, match="1 rows of logits are not finite"):
            inception_score(logits)
    with pytest.raises(ValueError, match="probabilities: give their log"):
        inception_score(drawn(40, 5).softmax(1))
    with pytest.raises(ValueError, match="wanted: "):
        inception_score(drawn(40, 5).flatten())


def test_too_few_images_for_the_splits_name_the_nearest_number():
    with pytest.raises(ValueError, match="splits=10 with 13 images.*nearest: splits=6"):
        inception_score(drawn(13, 5))
    with pytest.raises(ValueError, match="needs 2 images or more, there is 1"):
        inception_score(drawn(1, 5))


# Precision and recall


def by_neighbours(real: torch.Tensor, fake: torch.Tensor, k: int) -> PrecisionRecall:
    """Kynkäänniemi et al. 2019 and Naeem et al. 2020 by scikit-learn's trees and whole matrices."""
    real, fake = real.numpy(), fake.numpy()
    radii = [NearestNeighbors(n_neighbors=k + 1).fit(one).kneighbors(one)[0][:, -1] for one in (real, fake)]
    distance = np.sqrt(((real[:, None] - fake[None]) ** 2).sum(-1))  # (N, M)
    inside = distance <= radii[0][:, None]
    recall = (distance <= radii[1]).any(1).mean()
    return PrecisionRecall(inside.any(0).mean(), recall, inside.sum() / k / len(fake), inside.any(1).mean())


@pytest.mark.parametrize(("size", "k"), [(1, 1), (2, 3), (8, 3), (40, 5)])
def test_precision_and_recall_are_those_of_scikit_learns_neighbours(size, k):
    real, fake = drawn(150, size, shift=50), drawn(110, size, 1, scale=0.8, shift=50)
    wanted = by_neighbours(real, fake, k)
    assert vars(precision_recall(real, fake, k)) == pytest.approx(vars(wanted), rel=1e-12)


@pytest.mark.parametrize("size", [3, 40])
def test_precision_and_recall_do_not_depend_on_order_or_block(size):
    real, fake = drawn(90, size), drawn(101, size, 1, scale=0.9)
    wanted = precision_recall(real, fake)
    for block in (1, 7, 90, 4096):
        assert precision_recall(shuffled(real), shuffled(fake), block=block) == wanted


@pytest.mark.parametrize("size", [2, 40])
def test_a_set_against_itself_and_against_one_far_off(size):
    real = drawn(60, size)
    same = precision_recall(real, shuffled(real))
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    far = precision_recall(real, real + 1e6)
    assert vars(far) == dict(precision=0, recall=0, density=0, coverage=0)


@pytest.mark.parametrize("size", [2, 40])
def test_a_generator_of_one_real_image_is_precise_but_recalls_little(size):
    """Its balls are points, which contain only the copied image."""
    real = drawn(60, size)
    found = precision_recall(real, real[[7] * 30])
    assert found.precision == 1
    assert found.recall == pytest.approx(1 / 60)
    assert found.density > 0


def test_the_rim_belongs_to_a_ball_however_distances_round():
    """Fakes on the boundary: reals at 0 and 0.1 in any direction, fakes at that distance on the other side."""
    for size in (2, 40):
        step = drawn(1, size)[0] * 0.1
        real, fake = torch.stack([0 * step, step]), torch.stack([-step, 2 * step])
        for block in (1, 2):
            found = precision_recall(real + 3.3, fake + 3.3, k=1, block=block)
            assert (found.precision, found.density) == (1, 1)


def test_fewer_samples_than_neighbours():
    with pytest.raises(ValueError, match="real features: 4 or more are needed, there is 3"):
        precision_recall(drawn(3, 2), drawn(9, 2))
    with pytest.raises(ValueError, match="nearest: k=1"):
        precision_recall(drawn(3, 2), drawn(9, 2), k=0)
