"""The folder of a run: its layout, its synchronisation with S3, and how a name finds it.

Nothing here imports torch or Ray."""

from pipelines.runs._data_record import DataRecord, keep_measure, measured_with, named_classes, refresh_records
from pipelines.runs._disk_full import FullDiskError, as_full_disk_error
from pipelines.runs._folder import NameTakenError, RunFolder, Watch
from pipelines.runs._journal_segments import JournalSegments
from pipelines.runs._leftovers import sweep_folder, sweep_run
from pipelines.runs._lineage import Pointer, last_resumable_step, lineage, lineage_tags, pointer_file
from pipelines.runs._lookup import (
    find_checkpoint,
    find_run,
    import_code,
    import_own_code,
    names_with_file,
    newest_checkpoint,
    run_folder,
    run_names,
)
from pipelines.runs._mirror import Mirror, shared_cache
from pipelines.runs._ownership import TakenOverError
from pipelines.runs._paths import INIT_FROM, RunPaths, step_of

__all__ = [
    "INIT_FROM",
    "DataRecord",
    "FullDiskError",
    "JournalSegments",
    "Mirror",
    "NameTakenError",
    "Pointer",
    "RunFolder",
    "RunPaths",
    "TakenOverError",
    "Watch",
    "as_full_disk_error",
    "find_checkpoint",
    "find_run",
    "import_code",
    "import_own_code",
    "keep_measure",
    "last_resumable_step",
    "lineage",
    "lineage_tags",
    "measured_with",
    "named_classes",
    "names_with_file",
    "newest_checkpoint",
    "pointer_file",
    "refresh_records",
    "run_folder",
    "run_names",
    "shared_cache",
    "step_of",
    "sweep_folder",
    "sweep_run",
]
