import pytest

from gan_core import data
from gan_core.data.dataset import Dataset
from gan_core.experiment import Data, Metrics
from gan_core.metrics.statistics.reference import Reference


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The digits in 16x16."""
    return data.load(Data())


@pytest.fixture(scope="session")
def reference(digits) -> Reference:
    """What the digits in 16x16 are measured against; its classifier takes seconds to train."""
    return Reference.build(Metrics(), digits)
