"""Where a run or search keeps its files."""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_core.settings import SettingsError
from infra.files import write_atomic
from infra.locks import alone, lock_of

if TYPE_CHECKING:
    from pipelines.runs._journal_segments import Segments

KEPT_CHECKPOINTS = 3

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFolder:
    """`NAME/` of a training run, a search, or one trial (`NAME/trials/ID/`), on a disk that all who play it see.

    What has nothing to do here is for a folder that is kept elsewhere, of which this machine has a copy
    (`pipelines.runs._s3_folder`).
    """

    path: Path

    @property
    def experiment(self) -> Path:
        """The settings as they run."""
        return self.path / "experiment.yaml"

    @property
    def log(self) -> Path:
        """What Ray, MLflow and the workers say."""
        return self.path / "run.log"

    @property
    def journal(self) -> Path:
        """What a search did, in order."""
        return self.path / "journal.jsonl"

    @property
    def best(self) -> Path:
        """A search's best settings, to train again; beside it best.json (FID, checkpoint) and best.png."""
        return self.path / "best.yaml"

    @property
    def lineage(self) -> Path:
        """Whose weights a trial of population-based training took, and when."""
        return self.path / "lineage.json"

    @property
    def writer(self) -> Path:
        """What the one process that plays this run holds locked (`infra.locks.alone`)."""
        return self.path / "writer"

    @property
    def job(self) -> Path:
        """What is known of the batch job that plays it (`pipelines.jobs._registry.Job`)."""
        return self.path / "job.json"

    @property
    def untracked(self) -> Path:
        """Is there if its tracking store lacks some of it (`pipelines.tracking.retry.UntrackedNote`)."""
        return self.path / "untracked"

    @property
    def begun(self) -> Path:
        """The file that is there once it has begun: its identity."""
        return self.path / "id.json"

    @property
    def where(self) -> str:
        """Where it is kept, as a person finds it."""
        return str(self.path)

    @property
    def home(self) -> str:
        """The storage path that it lies in, as a person finds it."""
        return str(self.path.parent)

    def told(self, path: Path) -> str:
        """Where something inside is kept, as a person finds it."""
        return str(path)

    def free_name(self) -> str:
        """The nearest name beside it that is not taken."""
        taken = self._taken()
        return next(name for n in range(2, len(taken) + 3) if (name := f"{self.path.name}-{n}") not in taken)

    def _taken(self) -> set[str]:
        return {path.name for path in self.path.parent.iterdir()}

    def below(self, inside: str) -> RunFolder:
        """A folder inside, by its relative path."""
        return RunFolder(self.path / inside)

    def trial(self, trial_id: str) -> RunFolder:
        """One trial of a search."""
        return self.below(f"trials/{trial_id}")

    def exists(self) -> bool:
        """Whether it has begun. Raises SettingsError if that cannot be known."""
        return self.experiment.is_file()

    def create(self, experiment_yaml: str, origin: Mapping[str, str] | None = None) -> None:
        """Makes the folder of a new run; `origin`: tags that say where its settings are from. Raises SettingsError if
        the name is taken."""
        if self.experiment.exists():
            raise SettingsError(
                f"name={self.path.name} exists in {self.home};"
                f" nearest: name={self.free_name()}, or --resume {self.path.name} to go on with it"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomic(self.begun, json.dumps({"id": uuid.uuid4().hex, "origin": dict(origin or {})}).encode())
        write_atomic(self.experiment, experiment_yaml.encode())

    def change(self, experiment_yaml: bytes) -> None:
        """Writes other settings of a run that goes on."""
        write_atomic(self.experiment, experiment_yaml)

    def withdraw(self) -> None:
        """Takes back a run that never began: the same command, put right, may have the name. What else lies in the
        folder stays."""
        for path in (self.experiment, self.begun, self.log, self.journal, lock_of(self.writer)):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()

    @property
    def of_search(self) -> bool:
        """Whether it is a search's."""
        return "\nfamilies:" in self.experiment.read_text()

    @property
    def id(self) -> str:
        """What tells this run from an earlier one of the same name in a tracking store."""
        return str(self._about()["id"])

    @property
    def origin(self) -> dict[str, str]:
        """Tags that say where its settings are from; none if they are its own."""
        return dict(self._about().get("origin", {}))

    def _about(self) -> dict[str, Any]:
        return json.loads(self.begun.read_text())

    @contextmanager
    def sole_writer(self, waiting: Callable[[str], None] = _LOG.warning) -> Iterator[None]:
        """Holds the folder's lock. It waits for the process that still writes there: a driver that was killed leaves
        workers behind for a moment. `waiting` is called with a line that says so."""
        self.path.mkdir(parents=True, exist_ok=True)
        with alone(self.writer, lambda: waiting(f"{self.path}: another process still writes; waiting for it")):
            yield

    def take(self) -> None:
        """From now on it is for this driver and its workers to play, here and in the folders inside: those of the
        driver before keep and delete no more. A search's journal does it, once it is locked."""

    def take_up(self, until: int | None = None) -> None:
        """Before it is played on, by the one process that does: all that it goes on from is here, and nothing else.

        `until`: the step up to which what was played counts; None: all of it.
        """

    def keep(self, step: int | None = None) -> None:
        """What was played until now, and the checkpoint of that step, are where they are to stay; all but the newest
        checkpoints are deleted."""
        if step is not None:
            self.prune()

    def bring(self, step: int | None = None) -> None:
        """For whoever reads: what its player has kept is here, and the checkpoint of that step."""

    def put(self, *files: Path) -> None:
        """These files, written by the driver, are where they are to stay."""

    def drop(self, file: Path) -> None:
        """Deletes a file that the driver wrote."""
        file.unlink(missing_ok=True)

    def bring_file(self, file: Path) -> None:
        """This file is here, if there is one."""

    def of_ray(self, inside: str, nodes: int) -> dict[str, Any]:
        """Where Ray keeps its own files: arguments of RunConfig."""
        return {"storage_path": str(self.path / inside)}

    def segments(self) -> Segments | None:
        """Where its journal is kept beside the one here."""
        return None

    def checkpoint(self, step: int) -> Path:
        """The folder of the checkpoint at a step."""
        return self.path / "checkpoints" / f"step-{step:06d}"

    def checkpoints(self) -> list[Path]:
        """The complete checkpoints here, oldest first (an incomplete one has another name)."""
        return sorted((self.path / "checkpoints").glob("step-*"), key=step_of)

    def steps(self) -> list[int]:
        """Those of its complete checkpoints, wherever it was played."""
        return [step_of(path) for path in self.checkpoints()]

    def copy(self, step: int, into: Path) -> None:
        """Copies a checkpoint to a folder that is not there yet. Raises OSError or shutil.Error if it is deleted
        meanwhile."""
        shutil.copytree(self.checkpoint(step), into)

    def at_hand(self, checkpoint: Path) -> Path:
        """One of its checkpoints, or of a trial's, with all that lies beside it, to be read here."""
        return checkpoint

    def logged(self) -> int | None:
        """The last step of metrics.jsonl, 0 if it is empty; None if there is no such file."""
        file = self.path / "metrics.jsonl"
        if not file.is_file():
            return None
        for line in reversed(file.read_text().splitlines()):
            with suppress(ValueError):  # a line that a crash cut off
                return int(json.loads(line)["step"])
        return 0

    def rows(self) -> list[dict[str, float]]:
        """What metrics.jsonl holds, but for a last line that a crash cut off; nothing if there is no such file."""
        file = self.path / "metrics.jsonl"
        lines = file.read_text().splitlines(keepends=True) if file.is_file() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def discard_after(self, step: int) -> list[Path]:
        """Deletes the checkpoints later than `step`; returns the others, oldest first."""
        kept = [path for path in self.checkpoints() if step_of(path) <= step]
        for later in set(self.checkpoints()) - set(kept):
            shutil.rmtree(later)
        return kept

    def picture(self, step: int) -> Path:
        """The sample grid at a step."""
        return self.path / "samples" / f"step-{step:06d}.png"

    def pictures(self) -> list[Path]:
        """The sample grids, oldest first."""
        return sorted((self.path / "samples").glob("step-*.png"))

    def prune(self, keep: int = KEPT_CHECKPOINTS) -> None:
        """Deletes all but the newest checkpoints."""
        for old in self.checkpoints()[:-keep]:
            shutil.rmtree(old, ignore_errors=True)


def step_of(checkpoint: Path) -> int:
    """The step of a checkpoint's folder, by its name."""
    return int(checkpoint.name.removeprefix("step-"))
