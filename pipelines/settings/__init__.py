"""Settings of a run or a search as a user writes them: the tree, its checks, presets, and what fits into a cluster.

Nothing here imports torch or Ray."""

from pipelines.settings._assignments import only, spelled, split
from pipelines.settings._capacity import Shares, check_room, concurrent_trials, shares, trial_shares
from pipelines.settings._experiments import (
    Measuring,
    SearchExperiment,
    TrainExperiment,
    Where,
    check_files,
    check_tracking,
)
from pipelines.settings._presets import preset_names, read_config
from pipelines.settings._search import assign_space
from pipelines.settings._storage import Storage
from pipelines.settings._stores import open_store, read_manifest, told

__all__ = [
    "Measuring",
    "SearchExperiment",
    "Shares",
    "Storage",
    "TrainExperiment",
    "Where",
    "assign_space",
    "check_files",
    "check_room",
    "check_tracking",
    "concurrent_trials",
    "only",
    "open_store",
    "preset_names",
    "read_config",
    "read_manifest",
    "shares",
    "spelled",
    "split",
    "told",
    "trial_shares",
]
