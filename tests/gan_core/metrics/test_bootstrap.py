import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from gan_core.metrics.bootstrap import bootstrap, resampled_counts, weighted_moments
from gan_core.metrics.fid import Gaussian, frechet_distance
from gan_core.metrics.statistics.moments import Moments
from tests.gan_core.metrics.test_measures import drawn


def test_weighted_moments_are_those_of_repeated_rows():
    features = drawn(200, 6, shift=1e4)
    counts = next(resampled_counts(200, 1))
    wanted = Moments.of(features.repeat_interleave(counts, 0))
    for block in (1, 7, 4096):
        found = weighted_moments(features, counts, block)
        assert found.count == 200
        assert_close(found.mean, wanted.mean, rtol=1e-12, atol=0)
        assert_close(found.scatter, wanted.scatter, rtol=1e-9, atol=1e-6)


def test_resamples_are_as_large_as_the_set_and_seeded():
    drawn_counts = list(resampled_counts(500, 20, seed=1))
    assert all(int(counts.sum()) == 500 and len(counts) == 500 for counts in drawn_counts)
    assert_close(next(resampled_counts(500, 1, seed=1)), drawn_counts[0])
    left_out = torch.stack(drawn_counts).eq(0).double().mean()
    assert float(left_out) == pytest.approx(math.exp(-1), abs=0.01)


def test_the_interval_of_a_mean_is_its_closed_form():
    """Against the mean plus and minus 1.96 standard errors, and numpy's percentiles of the same resamples."""
    values = drawn(400, 1)[:, 0]
    found = bootstrap(lambda counts: float(counts.double() @ values / counts.sum()), 400, resamples=2000)
    error = float(values.std()) / 20
    assert found.estimate == pytest.approx(float(values.mean()))
    assert (found.low, found.high) == pytest.approx(
        (found.estimate - 1.96 * error, found.estimate + 1.96 * error), abs=0.15 * error
    )
    means = [values.repeat_interleave(counts).mean() for counts in resampled_counts(400, 2000)]
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), rel=1e-9)
    assert found.bias == pytest.approx(float(np.mean(means)) - found.estimate, abs=1e-12)


def test_the_centred_interval_of_fid_holds_the_fid_expected_at_its_count():
    """Repeated rows shift the plain interval up. At 90%, 22 or fewer of 30 sets have a probability of 1 in 100."""
    reference = Gaussian(torch.zeros(4).double(), torch.eye(4).double())
    sets = [drawn(100, 4, seed) for seed in range(300)]
    expected = np.mean([frechet_distance(reference, Moments.of(each).gaussian) for each in sets])
    plain = centred = 0
    for each in sets[:30]:
        found = bootstrap(
            lambda c, each=each: frechet_distance(reference, weighted_moments(each, c).gaussian), 100, 60, 0.9
        )
        low, high = found.centred()
        assert found.bias > 0
        plain, centred = plain + (found.low <= expected <= found.high), centred + (low <= expected <= high)
    assert centred > 22
    assert plain < centred


def test_what_has_no_interval_is_an_error():
    with pytest.raises(ValueError, match="2 rows or more, there is 1"):
        bootstrap(lambda counts: 0.0, 1)
    with pytest.raises(ValueError, match="resamples=39 are too few for level=0.95; nearest: resamples=40"):
        bootstrap(lambda counts: 0.0, 9, resamples=39)
    with pytest.raises(ValueError, match="level=95"):
        bootstrap(lambda counts: 0.0, 9, level=95)
    with pytest.raises(ValueError, match="not finite on some resamples"):
        bootstrap(lambda counts: math.nan if counts[0] == 2 else 1.0, 9)
    with pytest.raises(ValueError, match="8 counts for 9 rows"):
        weighted_moments(drawn(9, 2), torch.ones(8, dtype=torch.int64))
    with pytest.raises(ValueError, match="not finite"):
        weighted_moments(drawn(9, 2) / 0, torch.ones(9, dtype=torch.int64))
