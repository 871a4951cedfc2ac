"""Population-based training: a trial that takes another's weights, and what is kept of it.

Jaderberg et al. 2017, arXiv:1711.09846. The donor's checkpoint is copied, so that the donor may go on and delete it.
Steps are the game's own: with the weights a trial takes their step. Each tracker keeps one value for a step, the
first: if the donor's step is earlier, rows up to the trial's own last one stay those that it had before; if it is
later, there is a gap.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gan_core import checkpoint
from infra.files import write_atomic
from pipelines.runs import RunFolder

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


def exploit(folder: RunFolder, donor: RunFolder, step: int, settings: Mapping[str, Any]) -> int:
    """Copies a donor's checkpoint into a trial's folder, in place of what it had from that step on, and notes it.

    Returns the checkpoint's step: `step`, or if the donor has deleted that, its earliest after it. What was done is
    not done again. Raises CheckpointError if the donor has no whole checkpoint.
    """
    known, about = lineage(folder), {"parent": donor.path.name, "settings": dict(settings)}
    if known and known[-1].items() >= about.items() and step <= known[-1]["parent_step"]:
        taken = int(known[-1]["parent_step"])
        if checkpoint.is_whole(folder.checkpoint(taken)):
            folder.discard_after(taken)
            return taken
        known.pop()  # noted, but not done
    aside, taken = _copy(donor, step, folder.path / "checkpoints")
    known.append({"step": folder.logged() or 0, "parent_step": taken, **about})
    write_atomic(folder.lineage, json.dumps(known, indent=1).encode())
    folder.discard_after(taken - 1)
    os.replace(aside, folder.checkpoint(taken))
    folder.keep(taken)
    return taken


def _copy(donor: RunFolder, step: int, into: Path) -> tuple[Path, int]:
    """A whole copy under a name that no one takes for a checkpoint. The donor may delete what is being copied."""
    into.mkdir(parents=True, exist_ok=True)
    for left in into.glob(".*-new"):  # by a process that died here
        shutil.rmtree(left, ignore_errors=True)
    steps = donor.steps()
    for found in [one for one in steps if one >= step] or steps[-1:]:
        aside = into / f".{donor.checkpoint(found).name}-{uuid.uuid4().hex}-new"
        with suppress(FileNotFoundError, shutil.Error):
            donor.copy(found, aside)
            if checkpoint.is_whole(aside):
                return aside, found
        shutil.rmtree(aside, ignore_errors=True)
    raise checkpoint.CheckpointError(f"{donor.where} has no whole checkpoint from step {step} on")
