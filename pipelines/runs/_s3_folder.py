"""The folder of a run that S3 keeps: each machine that writes or reads it has a copy on its own disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from gan_core.settings import SettingsError
from infra.files import write_atomic
from infra.locks import alone
from infra.stores.protocol import DamagedError, NotThereError
from infra.threads import each
from pipelines.runs._folder import KEPT_CHECKPOINTS, RunFolder
from pipelines.runs._journal_segments import JournalSegments
from pipelines.runs._lineage import last_resumable_step
from pipelines.runs._mirror import THREADS, Mirror
from pipelines.runs._ownership import DRIVER, Ownership, retry_while_unreachable
from pipelines.runs._paths import step_of
from pipelines.settings import Storage

RESUMED_FILES = ("metrics.jsonl", "times.jsonl", "tags.json", "lineage.json")
"""What the writer resumes from in addition to a checkpoint."""
COMMAND_FILES = (
    "id.json",
    "experiment.yaml",
    "data.json",
    "job.json",
    "best.yaml",
    "best.json",
    "best.png",
    "untracked",
)
"""What commands read of a run once they have found it by its name."""
EARLIER_FILES = ("job.json", "code.zip")
"""What can lie in a run's folder before the run starts."""
STATE, ABOUT = "state.safetensors", "checkpoint.json"


@dataclass(frozen=True)
class S3RunFolder(RunFolder):
    """A run folder whose files are kept at `mirror`; `path` is this machine's copy.

    Where the two differ, the store is right. Each checkpoint in the store is whole: `checkpoint.json`, which holds the
    digest of the rest, is uploaded last and deleted first. The writer uploads what it played before it reports it.
    Methods raise StoreError; those called before a run starts raise SettingsError. Methods that upload or delete raise
    TakenOverError if another driver owns the run by then, and change nothing in that case.
    """

    mirror: Mirror
    ownership: Ownership = field(compare=False)
    """Of the run or search that this folder is, or lies in."""

    @classmethod
    def at(cls, storage: Storage, inside: str, ownership: Ownership | None = None) -> Self:
        """The folder at a relative path below the storage path. `ownership`: that of the run that the folder lies in;
        None: the folder is a run's own."""
        mirror = Mirror(storage, inside)
        return cls(mirror.path, mirror, ownership or Ownership(mirror))

    def __reduce__(self) -> tuple[Any, ...]:
        """Unpickled on another machine, the folder is that machine's copy."""
        return S3RunFolder.at, (self.mirror.storage, self.mirror.inside, self.ownership)

    @property
    def where(self) -> str:
        return self.mirror.url

    @property
    def home(self) -> str:
        return self.mirror.storage.location

    def shown(self, path: Path) -> str:
        return f"{self.mirror.url}/{path.relative_to(self.path).as_posix()}"

    def below(self, inside: str) -> Self:
        return self.at(self.mirror.storage, f"{self.mirror.inside}/{inside}", self.ownership)

    def _taken_names(self) -> set[str]:
        return {*self.mirror.store.folders(), *super()._taken_names()}

    def exists(self) -> bool:
        """If the run exists, this downloads the files that commands read, and deletes a copy of another run of the same
        name."""
        with self.mirror.as_settings_error():
            identity = self.mirror.read("id.json")
            if self.mirror.about("experiment.yaml") is None:
                return False
            if not self.identity.is_file() or self.identity.read_bytes() != identity:
                self._clear_copy()
            self.mirror.download(COMMAND_FILES)
        return True

    def create(self, experiment_yaml: str, origin: Mapping[str, str] | None = None) -> None:
        with self.mirror.as_settings_error():
            self.check_free()
            self._clear_copy()
            self.path.mkdir(parents=True, exist_ok=True)
            if not self.mirror.create(self.experiment.name, experiment_yaml.encode()):
                raise self._taken()
            write_atomic(self.experiment, experiment_yaml.encode())
            self._write_identity(origin or {})
            self.upload(self.identity, self.experiment)

    def _clear_copy(self) -> None:
        """Deletes this machine's copy of another run of the same name."""
        for path in self.path.iterdir() if self.path.is_dir() else ():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in EARLIER_FILES and path.suffix != ".lock":
                path.unlink()

    def change(self, experiment_yaml: bytes) -> None:
        super().change(experiment_yaml)
        with self.mirror.as_settings_error():
            self.upload(self.experiment, self.identity)

    def withdraw(self) -> None:
        super().withdraw()
        with self.mirror.as_settings_error():
            journal = [*self.mirror.sizes("journal/"), DRIVER]
            self._delete_checkpoints([0])
            written = ["id.json", "data.json", "measure.json", "code.zip", "run.log", "ray.log", "untracked", *journal]
            self.mirror.delete([*written, "experiment.yaml"])

    def remove(self) -> None:
        """A driver on another machine is not seen, and can no longer save."""
        with self.mirror.as_settings_error(), self.sole_driver():
            self.claim()
            last = ("experiment.yaml", DRIVER)  # until it is deleted, the run can be found and removed again
            each(lambda name: self.mirror.delete([name]), self.mirror.sizes().keys() - set(last), THREADS)
            self.mirror.delete(last)
        super().remove()

    def written_at(self) -> float:
        with self.mirror.as_settings_error():
            journals = [max(names) for place in ("journal/", "confirm/journal/") if (names := self.mirror.sizes(place))]
            found = [self.mirror.about(name) for name in ("experiment.yaml", "metrics.jsonl", *journals)]
            return max(about.modified for about in found if about is not None)

    def _identity(self) -> dict[str, Any]:
        """A worker's machine may have no copy of the file, or one of an earlier run."""
        self.mirror.download([self.identity.name])
        return super()._identity()

    def claim(self) -> None:
        self.ownership.claim()

    def restore(self, until: int | None = None) -> None:
        with self._locked_copy():
            stored = self.mirror.sizes()
            self.mirror.download(RESUMED_FILES)
            for picture in self.pictures():
                if stored.get(f"samples/{picture.name}") != picture.stat().st_size:
                    picture.unlink()
                else:
                    self.mirror.mark_same(picture)
            last = last_resumable_step(self) if until is None else until
            resumable = [step for step in _steps(stored) if last is None or step <= last]
            if until is None:  # nothing resumes from the later ones, and they would count among those that are kept
                self._discard(set(_steps(stored)) - set(resumable))
            newest = next((step for step in reversed(resumable) if self._download_checkpoint(step)), None)
            for path in self.checkpoints():
                if step_of(path) != newest:
                    shutil.rmtree(path, ignore_errors=True)

    def save(self, step: int | None = None) -> None:
        retry_while_unreachable(lambda: self._save(step))

    def _save(self, step: int | None) -> None:
        self.ownership.check()
        self.mirror.upload([*(self.path / name for name in ("experiment.yaml", *RESUMED_FILES)), *self.pictures()])
        if step is not None:
            self.mirror.upload([self.checkpoint(step) / STATE])
            self.mirror.upload([self.checkpoint(step) / ABOUT])
            self._delete_checkpoints(self.steps()[:-KEPT_CHECKPOINTS])
            super().prune()

    def refresh(self, step: int | None = None) -> None:
        with self._locked_copy():
            stored = self.mirror.sizes()
            self.mirror.download(name for name in ("experiment.yaml", *RESUMED_FILES) if name in stored)
            self.mirror.download_dated(name for name in stored if name.startswith("samples/"))
            if step is not None:
                self._download_checkpoint(step)

    def refresh_file(self, file: Path) -> None:
        self.mirror.download([file.relative_to(self.path).as_posix()])

    def upload(self, *files: Path) -> None:
        self.ownership.check()
        self.mirror.upload(files)

    def delete(self, file: Path) -> None:
        self.ownership.check()
        super().delete(file)
        self.mirror.delete([file.relative_to(self.path).as_posix()])

    def ray_storage(self, inside: str, nodes: int) -> dict[str, Any]:
        """Ray wants one folder that all machines see; several machines share only the store."""
        if nodes == 1:
            return super().ray_storage(inside, nodes)
        from infra.stores.s3_arrow import filesystem

        files = filesystem(self.mirror.storage.endpoint_url)
        return {"storage_path": self.below(inside).where.removeprefix("s3://"), "storage_filesystem": files}

    def segments(self) -> JournalSegments | None:
        return JournalSegments(self.mirror, self.ownership)

    def steps(self) -> list[int]:
        return _steps(self.mirror.sizes("checkpoints/"))

    def copy(self, step: int, into: Path) -> None:
        try:
            for name in (STATE, ABOUT):
                self.mirror.store.get(f"{self.mirror.inside}/{_key(step, name)}", into / name)
        except NotThereError as error:
            raise FileNotFoundError(str(error)) from None

    def local_checkpoint(self, checkpoint: Path) -> Path:
        inside = checkpoint.parent.parent.relative_to(self.mirror.storage.folder).as_posix()
        run = S3RunFolder.at(self.mirror.storage, inside)
        with self.mirror.as_settings_error():
            run.refresh(step_of(checkpoint))
        if not checkpoint.is_dir():
            raise SettingsError(
                f"{run.shown(checkpoint)} is damaged",
                nearest=f"--resume {self.path.name}, which goes on from an older one",
            )
        return checkpoint

    def discard_after(self, step: int) -> list[Path]:
        self._discard(found for found in self.steps() if found > step)
        return super().discard_after(step)

    def prune(self, keep: int = KEPT_CHECKPOINTS) -> None:
        self._discard(self.steps()[:-keep])
        super().prune(keep)

    def _discard(self, steps: Iterable[int]) -> None:
        steps = list(steps)
        if steps:
            self.ownership.check()
        self._delete_checkpoints(steps)

    def _delete_checkpoints(self, steps: Iterable[int]) -> None:
        for step in steps:
            self.mirror.delete([_key(step, ABOUT), _key(step, STATE)])

    def _locked_copy(self) -> AbstractContextManager[None]:
        """Admits one process at a time: all ranks on one machine share one copy."""
        self.path.mkdir(parents=True, exist_ok=True)
        return alone(self.path / "copy", lambda: None)

    def _download_checkpoint(self, step: int) -> bool:
        """Returns whether the checkpoint is now on this machine, whole and as it is in the store."""
        from gan_core.checkpoint import is_whole

        path, about = self.checkpoint(step), self.mirror.read(_key(step, ABOUT))
        if about is None:
            return False
        if (path / ABOUT).is_file() and (path / ABOUT).read_bytes() == about and is_whole(path):
            return True
        for left in path.parent.glob(".step-*-copy"):  # by a process that died
            shutil.rmtree(left, ignore_errors=True)
        aside = path.with_name(f".{path.name}-copy")
        try:
            self.copy(step, aside)
        except (FileNotFoundError, DamagedError):
            return False
        if not is_whole(aside):
            shutil.rmtree(aside)
            return False
        shutil.rmtree(path, ignore_errors=True)
        os.replace(aside, path)
        return True


def s3_names_with_file(file: str, storage: Storage) -> list[str]:
    """The names below a storage path in S3 whose folder has such a file. Raises SettingsError."""
    root = Mirror(storage, "")
    with root.as_settings_error():
        return [name for name in root.store.folders() if Mirror(storage, name).about(file) is not None]


def _key(step: int, file: str) -> str:
    return f"checkpoints/step-{step:06d}/{file}"


def _steps(names: Iterable[str]) -> list[int]:
    """The steps of the whole checkpoints among these files, lowest first."""
    return sorted(step_of(Path(name).parent) for name in names if name.endswith(f"/{ABOUT}"))
