"""Every name of Ray that we use and that Ray does not document.

A new Ray may move or drop one without notice. They are imported here alone, so that `tests/infra/test_ray_private.py`
fails with the name of what is missing.
"""

from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.tune.experiment.config_parser import _create_trial_from_spec as create_trial_from_spec
from ray.tune.experiment.config_parser import _make_parser as make_parser

__all__ = ["ControllerCallback", "DataParallelTrainer", "create_trial_from_spec", "make_parser"]
