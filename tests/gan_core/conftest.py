import pytest

from gan_core import data
from gan_core.data.dataset import Dataset
from gan_core.experiment import Data
from gan_core.measures import Metrics
from gan_core.metrics.statistics.reference import Reference


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The digits at 16x16."""
    return data.load(Data())


@pytest.fixture(scope="session")
def reference(digits) -> Reference:
    """Reference statistics of the digits at 16x16. Training the classifier takes seconds."""
    return Reference.build(Metrics(), digits)
