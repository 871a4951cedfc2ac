"""Moments of features, and the FID of games. The distance itself is in test_fid."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from gan_core import streams
from gan_core.metrics.fid import frechet_distance
from gan_core.metrics.scores import sample_range, scores
from gan_core.metrics.statistics.moments import Moments
from tests.gan_core.games import new_game, play, small
from tests.gan_core.metrics.test_fid import by_singular_values, features, fitted

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
    assert_close(whole.gaussian.covariance.numpy(), np.cov(values.numpy(), rowvar=False), rtol=1e-12, atol=1e-12)


def test_merging_keeps_its_digits_far_from_the_origin():
    """At 1e8 a sum of squares minus a squared sum would have no correct digits."""
    values = features(100, 3) + 1e8
    merged = Moments.of(values[:30]).merge(Moments.of(values[30:]))
    assert_close(merged.gaussian.covariance.numpy(), np.cov((values - 1e8).numpy(), rowvar=False), rtol=1e-6, atol=1e-6)


def test_moments_are_float64_whatever_the_features_are():
    assert Moments.of(features(10, 3).float()).scatter.dtype == torch.float64
    assert Moments.of(features(10, 3).bfloat16()).mean.dtype == torch.float64


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_features_that_are_no_numbers_are_an_error(bad):
    values = features(10, 3)
    values[4, 1] = bad
    with pytest.raises(ValueError, match="1 values that are not finite"):
        Moments.of(values)


# FID


def test_noise_scores_badly_and_real_digits_well(reference, digits):
    draw = torch.Generator().manual_seed(0)
    noise = torch.rand(digits.images.shape, generator=draw) * 2 - 1
    assert frechet_distance(reference.target, fitted(reference.extractor.features(noise))) > 2000
    for _ in range(3):
        halves = digits.images[torch.randperm(1797, generator=draw)].tensor_split(2)
        one, other = (fitted(reference.extractor.features(half)) for half in halves)
        assert 0 < frechet_distance(one, other) < 60


def test_a_generator_of_one_image_scores_badly(reference, digits):
    """Mode collapse onto one of three real digits."""
    for index in (0, 1, 2):
        features = reference.extractor.features(digits.images[[index] * 300])
        assert frechet_distance(reference.target, fitted(features)) > 1000


@pytest.mark.parametrize("samples", [2, 100, 300, None])
def test_fid_is_that_of_its_samples_in_batches_of_any_size(reference, samples):
    game = new_game(small("wgan", f"metrics.samples={samples or 'null'}"))
    play(game, 1)
    count = samples or 1797
    z = streams.latents(0, "evaluation", 0, count, 8, game.device, torch.float32)
    values = torch.cat([reference.extractor.features(game.sample(part)) for part in z.split(77)])
    found = scores(game, reference)["fid"]
    assert found == pytest.approx(frechet_distance(reference.target, fitted(values)), rel=1e-6)
    assert found > 100


def test_fid_is_by_singular_values_of_the_features(reference, digits):
    game = new_game(small("dcgan", "metrics.samples=400"))
    play(game, 5)
    fake = reference.extractor.features(torch.cat([sample_range(game, a, a + 100) for a in range(0, 400, 100)]))
    wanted = by_singular_values(reference.extractor.features(digits.images).double(), fake.double())
    assert scores(game, reference)["fid"] == pytest.approx(wanted, rel=1e-6)


def test_a_generator_of_nan_is_an_error_and_no_number(reference):
    game = new_game(small("wgan", "metrics.samples=10"))
    for weight in game.average.parameters():
        weight.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite|range from nan"):
        scores(game, reference)


def test_evaluating_changes_nothing(reference):
    one, other = (new_game(small("dcgan", "metrics.samples=50")) for _ in range(2))
    play(one, 2)
    play(other, 1)
    scores(other, reference)
    play(other, 1)
    assert scores(one, reference) == scores(other, reference)
