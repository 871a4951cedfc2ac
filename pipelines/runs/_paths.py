"""Where the files of a run or search lie below its folder, and what can be read from them."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from infra.tracker import read_row

INIT_FROM = "ganfleet.init_from.checkpoint"
"""The tag with the checkpoint whose weights a run began with."""


class _Inside:
    """The path of a file in a folder, as an attribute of the folder."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: RunPaths, owner: type[RunPaths]) -> Path:
        return folder.path / self.name


@dataclass(frozen=True)
class RunPaths:
    """The layout of a run folder `NAME/`: of a training run, a search, or one trial (`NAME/trials/ID/`).

    It only reads, and only from this machine's disk; `RunFolder` writes and synchronises.
    """

    path: Path

    experiment = _Inside("experiment.yaml")
    """The settings as they run. The run has started, and its name is taken, once this file exists."""
    identity = _Inside("id.json")
    """The file with `id` and `origin`."""
    data = _Inside("data.json")
    """What the data were when the run or search began (`pipelines.runs._data_record.DataRecord`)."""
    code = _Inside("code.zip")
    """The user's own modules, as `compute.ship` names them (`pipelines.code`)."""
    measure = _Inside("measure.json")
    """What FID is measured with (`pipelines.runs._data_record.keep_measure`)."""
    log = _Inside("run.log")
    """What was said on the screen, and warnings and errors of our own, in the order of time."""
    ray_log = _Inside("ray.log")
    """The output of Ray, MLflow and the workers."""
    metrics = _Inside("metrics.jsonl")
    """The logged rows."""
    times = _Inside("times.jsonl")
    """When each row was logged."""
    journal = _Inside("journal.jsonl")
    """What a search did, in order."""
    best = _Inside("best.yaml")
    """A search's best settings, ready to train again. best.json (FID, checkpoint) and best.png lie next to it."""
    lineage = _Inside("lineage.json")
    """From which trials a trial of population-based training copied its weights, and when."""
    driver = _Inside("driver")
    """The file that the driver holds locked while it lives (`RunFolder.sole_driver`)."""
    writer = _Inside("writer")
    """The file that the one process that writes to this folder holds locked (`infra.locks.alone`)."""
    job = _Inside("job.json")
    """What is known of the batch job that runs it (`pipelines.jobs._registry.Job`)."""
    untracked = _Inside("untracked")
    """Exists while the tracking store may lack a part of the run (`pipelines.tracking.retry.UntrackedNote`)."""

    @property
    def of_search(self) -> bool:
        """Whether this is the folder of a search."""
        return "\nfamilies:" in self.experiment.read_text()

    @property
    def id(self) -> str:
        """Distinguishes this run from an earlier one of the same name in a tracking store."""
        return str(self._identity()["id"])

    @property
    def origin(self) -> dict[str, str]:
        """Tags that say where the settings come from; empty if the user gave them."""
        return dict(self._identity().get("origin", {}))

    def _identity(self) -> dict[str, Any]:
        return json.loads(self.identity.read_text())

    def below(self, inside: str) -> Self:
        """A folder inside this one, by its relative path."""
        return type(self)(self.path / inside)

    def trial(self, trial_id: str) -> Self:
        """The folder of one trial of a search."""
        return self.below(f"trials/{trial_id}")

    def checkpoint(self, step: int) -> Path:
        """The folder of the checkpoint at a step."""
        return self.path / "checkpoints" / f"step-{step:06d}"

    def checkpoints(self) -> list[Path]:
        """The complete checkpoints on this disk, oldest first; incomplete ones have other names."""
        return sorted((self.path / "checkpoints").glob("step-*"), key=step_of)

    def picture(self, step: int) -> Path:
        """The sample grid at a step."""
        return self.path / "samples" / f"step-{step:06d}.png"

    def pictures(self) -> list[Path]:
        """The sample grids, oldest first."""
        return sorted((self.path / "samples").glob("step-*.png"))

    def logged(self) -> int | None:
        """The last step of metrics.jsonl, 0 if the file is empty; None if there is no such file."""
        if not self.metrics.is_file():
            return None
        for line in reversed(self.metrics.read_text().splitlines()):
            with suppress(ValueError):  # a crash can cut off the last line
                return int(json.loads(line)["step"])
        return 0

    def logged_at(self) -> int | None:
        """When the last row was logged, in milliseconds since 1970; None if that is not known."""
        lines = self.times.read_text().splitlines(keepends=True) if self.times.is_file() else []
        whole = [line for line in lines if line.endswith("\n")]
        return int(json.loads(whole[-1])["time"]) if whole else None

    def rows(self) -> list[dict[str, float]]:
        """The rows of metrics.jsonl, without a last line that a crash cut off; empty if there is no such file."""
        lines = self.metrics.read_text().splitlines(keepends=True) if self.metrics.is_file() else []
        return [read_row(line) for line in lines if line.endswith("\n")]


def step_of(checkpoint: Path) -> int:
    """The step of a checkpoint, from the name of its folder."""
    return int(checkpoint.name.removeprefix("step-"))
