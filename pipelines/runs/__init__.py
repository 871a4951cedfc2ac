"""The folder of a run: its layout, its copy in S3, how a name finds it.

Nothing here imports torch or Ray."""

from pipelines.runs._disk_full import FullDiskError, full_disk_told
from pipelines.runs._folder import RunFolder, step_of
from pipelines.runs._journal_segments import Segments
from pipelines.runs._lineage import Pointer, lineage, lineage_tags, pointer_file, reached
from pipelines.runs._lookup import find_checkpoint, find_run, names_with, run_folder, run_names
from pipelines.runs._mirror import Mirror, shared_cache
from pipelines.runs._ownership import TakenOverError, ending

__all__ = [
    "FullDiskError",
    "Mirror",
    "Pointer",
    "RunFolder",
    "Segments",
    "TakenOverError",
    "ending",
    "find_checkpoint",
    "find_run",
    "full_disk_told",
    "lineage",
    "lineage_tags",
    "names_with",
    "pointer_file",
    "reached",
    "run_folder",
    "run_names",
    "shared_cache",
    "step_of",
]
