"""SIGKILL of a search's driver: a short form of `tests/faults/driver_kills.py`."""

import pytest

from tests.faults.driver_kills import disturb

pytestmark = [pytest.mark.usefixtures("own_cluster"), pytest.mark.system]


def test_a_search_whose_driver_is_killed_comes_to_the_same_end(storage, reference):
    """The fixture `reference` trains the classifier beforehand, so that the kills hit trials."""
    seen = disturb(storage, kills=2, trials=4, seed=0)
    assert seen["wrong"] == []
    assert seen["kills"] == 2
