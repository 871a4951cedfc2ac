"""Population-based training: which trial copied whose weights, and when.

Jaderberg et al. 2017, arXiv:1711.09846. The donor's checkpoint is copied, so that the donor may continue and delete it.
A step belongs to the weights: a trial that copies weights continues at their step. A tracker keeps the first value of
each step. So if the donor's step is earlier, the trial's rows up to its own last step stay as they are; if it is later,
the rows have a gap.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infra.files import write_atomic
from pipelines.runs._paths import RunPaths

POINTER = "pointer.json"


@dataclass(frozen=True)
class Pointer:
    """A reference to a trial's checkpoint at a step. It is all that Ray Tune stores of a checkpoint."""

    trial: str
    step: int
    signs: str = ""
    """Warning signs seen until then, separated by commas."""

    def write(self, folder: Path) -> Path:
        """Writes it into a folder, because Ray Tune wants checkpoints to be folders. Returns the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / POINTER, json.dumps(asdict(self)).encode())
        return folder

    @staticmethod
    def read(folder: Path) -> Pointer:
        """Reads what `write` wrote."""
        return Pointer(**json.loads((folder / POINTER).read_bytes()))


def pointer_file(folder: RunPaths) -> Path:
    """The file in which the driver tells a trial which checkpoint to resume from."""
    return folder.path / "pointer" / POINTER


def lineage(folder: RunPaths) -> list[dict[str, Any]]:
    """A trial's exploitations, oldest first.

    Each has the trial's own `step` then, the donor `parent`, the donor's `parent_step`, and the `settings` with which
    the trial continued.
    """
    try:
        return list(json.loads(folder.lineage.read_bytes()))
    except FileNotFoundError:
        return []


def last_resumable_step(folder: RunPaths) -> int | None:
    """The last step that a run may resume from: of its rows, or of weights that it copied; None if it has no rows."""
    logged = folder.logged()
    return None if logged is None else max(logged, *(entry["parent_step"] for entry in lineage(folder)[-1:]), 0)


def lineage_tags(folder: RunPaths) -> dict[str, str]:
    """A run's tags with its last exploitation and with all of them."""
    known = lineage(folder)
    if not known:
        return {}
    return {
        "ganfleet.pbt.parent": known[-1]["parent"],
        "ganfleet.pbt.step": str(known[-1]["parent_step"]),
        "ganfleet.pbt.lineage": json.dumps(known),
    }
