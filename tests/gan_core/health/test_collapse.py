"""Detection of collapsed samples, on made-up numbers and on those of real games."""

import pytest

from gan_core.health.collapse import CollapseDetector


def first_seen(varieties: list[float], every: int = 75, last_step: int = 1500) -> int | None:
    """The number of the evaluation, from 1, at which the game counts as collapsed."""
    collapse = CollapseDetector(last_step)
    for number, variety in enumerate(varieties, start=1):
        if collapse.see(number * every, {"fid": 1.0, "variety": variety}):
            return number
    return None


@pytest.mark.parametrize(
    ("varieties", "seen"),
    [
        ([0.9] * 10 + [0.0] * 10, 13),
        ([0.9] * 10 + [0.0, 0.0, 0.2] * 3, None),
        ([0.0] * 20, 16),
        ([0.5] + [0.0] * 19, 8),
        ([0.003] * 20, None),
    ],
    ids=["for good", "comes back each time", "never begins: 1,000 rounds", "grace: a quarter of 1,500", "slow"],
)
def test_collapse(varieties, seen):
    assert first_seen(varieties) == seen


@pytest.mark.parametrize(
    ("varieties", "collapsed"),
    [
        ([0.09, 0.54, 0.16, 0.15, 0.24, 0.25, 0.41, 0.29, 0.14, 0.16, 0.22, 0.021, 0.0002, 0.0, 0.0, 0.0, 0.0], True),
        ([0.71, 0.84, 0.88, 0.82, 0.98, 0.99, 0.98, 0.99, 0.98, 0.86, 0.061, 0.012, 0.017, 0.049, 0.099], False),
        ([0.41, 0.69, 0.38, 0.35, 0.24, 0.25, 0.21, 0.36, 0.18, 0.19, 0.13, 0.11, 0.14, 0.13, 0.23, 0.31, 0.45], False),
        ([0.0, 0.0, 0.0003, 0.38, 0.52, 0.55, 0.57, 0.6, 0.67, 0.68, 0.69], False),
    ],
    ids=["gan ring8 lr=2e-2 beta1=0.9", "gan ring8 lr=2e-2", "gan ring8 lr=5e-3 beta1=0.9", "wgan digits lr=0.1"],
)
def test_games_that_were_played(varieties, collapsed):
    assert (first_seen(varieties) is not None) == collapsed


def test_without_variety_nothing_is_known():
    collapse = CollapseDetector(10)
    assert [collapse.see(step, {"fid": 1.0}) for step in range(1, 11)] == [""] * 10


def test_what_is_seen_is_said_in_numbers():
    collapse = CollapseDetector(100)
    said = [collapse.see(step, {"variety": v}) for step, v in ((30, 0.8), (40, 0.0), (50, 0.0), (60, 0.0002))]
    assert said == ["", "", "", "variety of the samples 0.0002 at 3 evaluations in a row, until step 60"]
