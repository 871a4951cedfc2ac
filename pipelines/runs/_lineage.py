"""Population-based training: a trial that takes another's weights, and what is kept of it.

Jaderberg et al. 2017, arXiv:1711.09846. The donor's checkpoint is copied, so that the donor may go on and delete it.
Steps are the game's own: with the weights a trial takes their step. Each tracker keeps one value for a step, the
first: if the donor's step is earlier, rows up to the trial's own last one stay those that it had before; if it is
later, there is a gap.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infra.files import write_atomic
from pipelines.runs._folder import RunFolder

POINTER = "pointer.json"


@dataclass(frozen=True)
class Pointer:
    """Where weights are: a trial's checkpoint at a step. All that Ray Tune keeps of one."""

    trial: str
    step: int
    signs: str = ""
    """Warning signs seen until then, by commas."""

    def write(self, folder: Path) -> Path:
        """Puts it in a folder, as Ray Tune wants its checkpoints. Returns the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / POINTER, json.dumps(asdict(self)).encode())
        return folder

    @staticmethod
    def read(folder: Path) -> Pointer:
        """What `write` wrote."""
        return Pointer(**json.loads((folder / POINTER).read_bytes()))


def pointer_file(folder: RunFolder) -> Path:
    """Where a trial's pointer is that the driver gives it to go on from."""
    return folder.path / "pointer" / POINTER


def lineage(folder: RunFolder) -> list[dict[str, Any]]:
    """A trial's exploitations, oldest first: its own `step` then, the donor `parent`, its `parent_step`, and the
    `settings` with which the trial went on."""
    try:
        return list(json.loads(folder.lineage.read_bytes()))
    except FileNotFoundError:
        return []


def reached(folder: RunFolder) -> int | None:
    """The last step that a run may go on from: of its rows, or of weights that it took; None if nothing says."""
    logged = folder.logged()
    return None if logged is None else max(logged, *(entry["parent_step"] for entry in lineage(folder)[-1:]), 0)


def lineage_tags(folder: RunFolder) -> dict[str, str]:
    """The last exploitation, and all of them, as a run's tags."""
    known = lineage(folder)
    if not known:
        return {}
    return {
        "ganfleet.pbt.parent": known[-1]["parent"],
        "ganfleet.pbt.step": str(known[-1]["parent_step"]),
        "ganfleet.pbt.lineage": json.dumps(known),
    }
