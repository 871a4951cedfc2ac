"""Settings of a run or a search as a user writes them: the tree, its checks, presets, and what fits into a cluster.

Nothing here imports torch or Ray."""

from pipelines.settings._assignments import expand_shorthands, restricted_settings, split_words, storage_words
from pipelines.settings._capacity import (
    WorkerResources,
    check_capacity,
    concurrent_trials,
    trial_resources,
    worker_resources,
)
from pipelines.settings._compute import check_batch_fits
from pipelines.settings._credentials import word_without_credentials
from pipelines.settings._experiments import (
    CommonSettings,
    EvaluateSettings,
    SearchExperiment,
    TrainExperiment,
    check_files,
    check_functions,
    check_paths,
    check_text,
    check_tracking,
)
from pipelines.settings._presets import preset_names, read_config, with_data_set
from pipelines.settings._reliability import Reliability
from pipelines.settings._search import assign_space, labels
from pipelines.settings._storage import Storage
from pipelines.settings._stores import UnavailableError, as_settings_error, open_store, read_manifest

__all__ = [
    "CommonSettings",
    "EvaluateSettings",
    "Reliability",
    "SearchExperiment",
    "Storage",
    "TrainExperiment",
    "UnavailableError",
    "WorkerResources",
    "as_settings_error",
    "assign_space",
    "check_batch_fits",
    "check_capacity",
    "check_files",
    "check_functions",
    "check_paths",
    "check_text",
    "check_tracking",
    "concurrent_trials",
    "expand_shorthands",
    "labels",
    "open_store",
    "preset_names",
    "read_config",
    "read_manifest",
    "restricted_settings",
    "split_words",
    "storage_words",
    "trial_resources",
    "with_data_set",
    "word_without_credentials",
    "worker_resources",
]
