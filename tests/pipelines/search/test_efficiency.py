"""Short forms of `tests/benchmarks/search_efficiency.py` and `search_overhead.py`."""

import json

from pipelines.runs._folder import RunFolder
from tests.benchmarks.search_efficiency import EVERY, SHARE, Plan, compared
from tests.benchmarks.search_overhead import measured

MOST = 5
"""Critic steps per round."""


def test_a_search_that_stops_early_tries_more_settings_with_a_quarter_of_the_images(ray_cluster, tmp_path):
    plan = Plan(tmp_path, trials=6, rounds=81)
    random, early = compared(plan, seed=0)
    length, evaluation = 64 * plan.rounds, 64 * MOST * EVERY
    for curve in (random, early):
        images, fids = zip(*curve, strict=True)
        assert list(images) == sorted(images)
        assert list(fids) == sorted(fids, reverse=True)
    assert 0.5 * plan.trials * length < random[-1][0] < plan.trials * (length + 64 * MOST), "nothing is stopped"
    quarter = random[-1][0] / SHARE
    assert quarter <= early[-1][0] <= quarter + 4 * evaluation, "what runs ends at its next evaluation"
    lines = RunFolder(tmp_path / "early-0").journal.read_text().splitlines()
    tried = sum(json.loads(line)["event"] == "trial" for line in lines)
    assert tried > plan.trials / SHARE + 1, "as many images would do for 1.5 trials of full length"


def test_the_drivers_memory_does_not_grow_with_its_trials(ray_cluster):
    """A trial leaves a few rows in the driver. 50 MB would be 5 MB per trial."""
    found = measured(12, profiled=False)
    early, _, late = found["driver_rss_mb"]
    assert found["trials"] == 12
    assert late - early < 50
