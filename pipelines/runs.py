"""Where a run or search keeps its files, and how a name on the command line finds them."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gan_core.settings import SettingsError, nearest
from infra.files import write_atomic

KEPT_CHECKPOINTS = 3


@dataclass(frozen=True)
class RunFolder:
    """`NAME/` of a training run, a search, or one trial (`NAME/trials/ID/`)."""

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
        """What the one process that plays this run holds locked (`infra.files.alone`)."""
        return self.path / "writer"

    @property
    def job(self) -> Path:
        """What is known of the batch job that plays it (`pipelines.jobs.Job`)."""
        return self.path / "job.json"

    @property
    def begun(self) -> Path:
        """The file that is there once it has begun."""
        return self._identity

    def free_name(self) -> str:
        """The nearest name beside it that is not taken."""
        taken = {path.name for path in self.path.parent.iterdir()}
        return next(name for n in range(2, len(taken) + 3) if (name := f"{self.path.name}-{n}") not in taken)

    def trial(self, trial_id: str) -> RunFolder:
        """One trial of a search."""
        return RunFolder(self.path / "trials" / trial_id)

    def create(self, experiment_yaml: str, origin: Mapping[str, str] | None = None) -> None:
        """Makes the folder of a new run; `origin`: tags that say where its settings are from. Raises SettingsError if
        the name is taken."""
        if self.experiment.exists():
            raise SettingsError(
                f"name={self.path.name} exists in {self.path.parent};"
                f" nearest: name={self.free_name()}, or --resume {self.path.name} to go on with it"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomic(self._identity, json.dumps({"id": uuid.uuid4().hex, "origin": dict(origin or {})}).encode())
        write_atomic(self.experiment, experiment_yaml.encode())

    def withdraw(self) -> None:
        """Takes back a run that never began: the same command, put right, may have the name. What else lies in the
        folder stays."""
        for path in (self.experiment, self._identity, self.log, self.journal):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()

    @property
    def id(self) -> str:
        """What tells this run from an earlier one of the same name in a tracking store."""
        return str(json.loads(self._identity.read_text())["id"])

    @property
    def origin(self) -> dict[str, str]:
        """Tags that say where its settings are from; none if they are its own."""
        return dict(json.loads(self._identity.read_text()).get("origin", {}))

    @property
    def _identity(self) -> Path:
        return self.path / "id.json"

    def checkpoint(self, step: int) -> Path:
        """The folder of the checkpoint at a step."""
        return self.path / "checkpoints" / f"step-{step:06d}"

    def checkpoints(self) -> list[Path]:
        """The complete checkpoints, oldest first (an incomplete one has another name)."""
        return sorted((self.path / "checkpoints").glob("step-*"), key=lambda path: int(path.name[5:]))

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
        kept = [path for path in self.checkpoints() if int(path.name[5:]) <= step]
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


def find_run(name: str, storage: Path) -> RunFolder:
    """The run or search of that name, or at that path. Raises SettingsError with the nearest name."""
    for path in (storage.resolve() / name, Path(name).resolve()):
        if (path / "experiment.yaml").is_file():
            return RunFolder(path)
    known = run_names(storage)
    hint = f"nearest: {nearest(name, known)}" if known else "nearest: none, there is no run yet"
    raise SettingsError(f"no run named '{name}' in {storage.resolve()}; {hint}")


def find_checkpoint(target: str, storage: Path) -> Path:
    """A checkpoint folder, a run's newest checkpoint, or that of a search's best trial.

    Raises SettingsError if there is none.
    """
    if (Path(target) / "checkpoint.json").is_file():
        return Path(target).resolve()
    run = find_run(target, storage)
    if run.best.is_file():
        return run.path / json.loads(run.best.with_suffix(".json").read_text())["checkpoint"]
    if (run.path / "trials").is_dir():
        raise SettingsError(f"the search '{target}' has no best trial yet; nearest: --resume {target}")
    if not run.checkpoints():
        raise SettingsError(f"the run '{target}' has no checkpoint yet; nearest: --resume {target}")
    return run.checkpoints()[-1]


def run_names(storage: Path) -> list[str]:
    """The runs and searches below a storage path."""
    found: Iterable[Path] = storage.resolve().glob("*/experiment.yaml")
    return sorted(path.parent.name for path in found)
