"""When samples count as collapsed for good."""

import pytest

from gan_core.collapse import Collapse


def first_seen(varieties: list[float], every: int = 100, last_step: int = 1000) -> int | None:
    """The evaluation, from 1 on, at which the game counts as collapsed."""
    collapse = Collapse(last_step)
    for number, variety in enumerate(varieties, start=1):
        if collapse.see(number * every, {"fid": 1.0, "variety": variety}):
            return number
    return None


@pytest.mark.parametrize(
    ("varieties", "seen"),
    [
        ([0.5, 0.8, 0.9, 0.01, 0.01, 0.01, 0.01], 6),
        ([0.5, 0.8, 0.9, 0.01, 0.01, 0.5, 0.01, 0.01, 0.9], None),
        ([0.5, 0.8, 0.9, 0.2, 0.2, 0.2, 0.2], None),
        ([0.9, 0.001, 0.001, 0.001, 0.001], 5),
        ([0.003] * 9, None),
        ([8.0, 8.0, 0.3, 0.3, 0.3, 0.3, 0.3], None),
    ],
    ids=["for good", "comes back", "less varied", "grace: a quarter of 1,000", "slow to begin", "noise at first"],
)
def test_collapse(varieties, seen):
    assert first_seen(varieties) == seen


def test_a_game_that_never_varies_has_collapsed():
    assert first_seen([0.0003] * 30, last_step=3000) == 22, "2,000 rounds, then three in a row"


def test_without_variety_nothing_is_known():
    collapse = Collapse(10)
    assert [collapse.see(step, {"fid": 1.0}) for step in range(1, 11)] == [""] * 10


def test_what_is_seen_is_said_in_numbers():
    collapse = Collapse(100)
    said = [
        collapse.see(step, {"variety": variety}) for step, variety in ((30, 0.8), (40, 0.01), (50, 0.01), (60, 0.02))
    ]
    assert said == ["", "", "", "variety of the samples 0.02 at step 60, it was 0.8"]
