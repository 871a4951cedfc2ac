"""Every name of Ray that we use and that Ray does not document.

A new Ray may move or drop one without notice. They are imported here alone, so that `tests/infra/test_ray_private.py`
fails with the name of what is missing.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from ray._common.usage.usage_lib import get_cluster_metadata
from ray._private import utils as ray_utils
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray._private.services import find_bootstrap_address, find_gcs_addresses
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.tune.experiment.config_parser import _create_trial_from_spec as create_trial_from_spec
from ray.tune.experiment.config_parser import _make_parser as make_parser

__all__ = [
    "ControllerCallback",
    "DataParallelTrainer",
    "GcsClient",
    "create_trial_from_spec",
    "find_bootstrap_address",
    "find_gcs_addresses",
    "get_cluster_metadata",
    "make_parser",
    "maybe_enable_token_auth_if_token_available",
    "without_ray_signals",
]


@contextmanager
def without_ray_signals() -> Iterator[None]:
    """Inside, `ray.init` leaves the handler of TERM to its owner. Ray's own would end the process with Ray's code."""
    install = ray_utils.set_sigterm_handler
    ray_utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        ray_utils.set_sigterm_handler = install
