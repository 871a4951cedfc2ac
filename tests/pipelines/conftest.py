from pathlib import Path

import pytest
from rich.console import Console

from gan_core import data
from gan_core.experiment import Data
from gan_core.measures import Metrics
from pipelines.evaluate.reference import prepare_reference
from pipelines.train.play import play
from tests.pipelines.small_runs import PlayedRun, created, small_train


@pytest.fixture(scope="session")
def storage(tmp_path_factory) -> Path:
    """One storage path for all tests, so that MLflow's store is made once and the classifier trained once."""
    return tmp_path_factory.mktemp("storage")


@pytest.fixture(scope="session")
def reference(storage) -> bytes:
    """The reference statistics of 8x8 digits, which are in the cache of the storage path then."""
    return prepare_reference(Metrics(), data.load(Data(image_size=8)), storage, Console(quiet=True)).content


@pytest.fixture(scope="session")
def played(storage, reference) -> PlayedRun:
    """A run of twelve rounds in this process, without Ray and MLflow. Tests must not change it."""
    experiment = small_train(
        storage,
        "wgan_gp",
        "played",
        "family.n_critic=2",
        "budget.rounds=12",
        "budget.log_every=2",
        "budget.eval_every=4",
        "budget.checkpoint_every=3",
    )
    folder = created(experiment)
    return PlayedRun(experiment, folder, list(play(experiment, folder, reference, target=None)))
