"""The folder of a run that is kept in S3: whoever plays it or reads it has a copy on its own machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_core.settings import SettingsError
from infra.locks import alone
from infra.stores.protocol import DamagedError, NotThereError
from pipelines.runs._folder import KEPT_CHECKPOINTS, RunFolder, step_of
from pipelines.runs._journal_segments import Segments
from pipelines.runs._lineage import reached
from pipelines.runs._mirror import Mirror
from pipelines.runs._ownership import DRIVER, Turn, patiently
from pipelines.settings import Storage

ROWS = ("metrics.jsonl", "tags.json", "lineage.json")
"""What its player goes on from beside a checkpoint."""
FOUND = ("id.json", "experiment.yaml", "job.json", "best.yaml", "best.json", "best.png", "untracked")
"""What a command looks at once it has found a run by its name."""
OTHERS = ("job.json",)
"""What lies in a run's folder before it begins."""
STATE, ABOUT = "state.safetensors", "checkpoint.json"


@dataclass(frozen=True)
class StoredFolder(RunFolder):
    """A run's folder whose files are kept at `mirror`; `path` is this machine's copy.

    The store is right wherever the two differ, and each checkpoint there is whole: `checkpoint.json`, which has the
    digest of the rest, is put last and deleted first. The player puts what it has played before anybody is told of it.
    Calls raise StoreError, those before a run begins SettingsError. Those that put or delete raise TakenOverError once
    the turn is another driver's, and then have done neither.
    """

    mirror: Mirror
    turn: Turn = field(compare=False)
    """Of the run or search that this folder is, or lies in."""

    @staticmethod
    def at(storage: Storage, inside: str, turn: Turn | None = None) -> StoredFolder:
        """By its relative path below the storage path. `turn`: of the run that it lies in; None: it is a run's own."""
        mirror = Mirror(storage, inside)
        return StoredFolder(mirror.path, mirror, turn or Turn(mirror))

    def __reduce__(self) -> tuple[Any, ...]:
        """On another machine it is that machine's copy."""
        return StoredFolder.at, (self.mirror.storage, self.mirror.inside, self.turn)

    @property
    def where(self) -> str:
        return self.mirror.url

    @property
    def home(self) -> str:
        return self.mirror.storage.place

    def told(self, path: Path) -> str:
        return f"{self.mirror.url}/{path.relative_to(self.path).as_posix()}"

    def below(self, inside: str) -> StoredFolder:
        return StoredFolder.at(self.mirror.storage, f"{self.mirror.inside}/{inside}", self.turn)

    def _taken(self) -> set[str]:
        return set(self.mirror.store.folders())

    def exists(self) -> bool:
        """If it does, what a command looks at is here then; another run's copy of the same name goes."""
        with self.mirror.as_settings_error():
            identity = self.mirror.read("id.json")
            if identity is None or self.mirror.about("experiment.yaml") is None:
                return False
            if not self.begun.is_file() or self.begun.read_bytes() != identity:
                self._clear()
            self.mirror.get(FOUND)
        return True

    def create(self, experiment_yaml: str, origin: Mapping[str, str] | None = None) -> None:
        with self.mirror.as_settings_error():
            if not self.exists():
                self._clear()
            super().create(experiment_yaml, origin)
            self.put(self.begun)
            self.put(self.experiment)

    def _clear(self) -> None:
        """Deletes what is left here of another run of this name."""
        for path in self.path.iterdir() if self.path.is_dir() else ():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in OTHERS:
                path.unlink()

    def change(self, experiment_yaml: bytes) -> None:
        super().change(experiment_yaml)
        with self.mirror.as_settings_error():
            self.put(self.experiment)

    def withdraw(self) -> None:
        super().withdraw()
        with self.mirror.as_settings_error():
            journal = [*self.mirror.sizes("journal/"), DRIVER]
            self.mirror.delete(["experiment.yaml", "id.json", "run.log", *journal])

    def _about(self) -> dict[str, Any]:
        """A worker's machine may have no copy of it, or one of an earlier run."""
        self.mirror.get([self.begun.name])
        return super()._about()

    def take(self) -> None:
        self.turn.take()

    def take_up(self, until: int | None = None) -> None:
        with self._copying():
            there = self.mirror.sizes()
            self.mirror.get(ROWS)
            for picture in self.pictures():
                if there.get(f"samples/{picture.name}") != picture.stat().st_size:
                    picture.unlink()
                else:
                    self.mirror.note(picture)
            last = reached(self) if until is None else until
            known = [step for step in _steps(there) if last is None or step <= last]
            if until is None:  # of nobody who goes on: they would count among those that are kept
                self._discard(set(_steps(there)) - set(known))
            newest = next((step for step in reversed(known) if self._brought(step)), None)
            for path in self.checkpoints():
                if step_of(path) != newest:
                    shutil.rmtree(path, ignore_errors=True)

    def keep(self, step: int | None = None) -> None:
        patiently(lambda: self._keep(step))

    def _keep(self, step: int | None) -> None:
        self.turn.check()
        self.mirror.put([*(self.path / name for name in ("experiment.yaml", *ROWS)), *self.pictures()])
        if step is not None:
            self.mirror.put([self.checkpoint(step) / STATE])
            self.mirror.put([self.checkpoint(step) / ABOUT])
            self._delete(self.steps()[:-KEPT_CHECKPOINTS])
            super().prune()

    def bring(self, step: int | None = None) -> None:
        with self._copying():
            there = self.mirror.sizes()
            self.mirror.get(name for name in ("experiment.yaml", *ROWS) if name in there)
            self.mirror.get_dated(name for name in there if name.startswith("samples/"))
            if step is not None:
                self._brought(step)

    def put(self, *files: Path) -> None:
        self.turn.check()
        self.mirror.put(files)

    def drop(self, file: Path) -> None:
        self.turn.check()
        super().drop(file)
        self.mirror.delete([file.relative_to(self.path).as_posix()])

    def bring_file(self, file: Path) -> None:
        self.mirror.get([file.relative_to(self.path).as_posix()])

    def of_ray(self, inside: str, nodes: int) -> dict[str, Any]:
        """Several machines have no folder in common, and Ray wants one that all of them see."""
        if nodes == 1:
            return super().of_ray(inside, nodes)
        from infra.stores.s3_arrow import filesystem

        files = filesystem(self.mirror.storage.endpoint_url)
        return {"storage_path": self.below(inside).where.removeprefix("s3://"), "storage_filesystem": files}

    def segments(self) -> Segments | None:
        return Segments(self.mirror, self.turn)

    def steps(self) -> list[int]:
        return _steps(self.mirror.sizes("checkpoints/"))

    def copy(self, step: int, into: Path) -> None:
        try:
            for name in (STATE, ABOUT):
                self.mirror.store.get(f"{self.mirror.inside}/{_name(step, name)}", into / name)
        except NotThereError as error:
            raise FileNotFoundError(str(error)) from None

    def at_hand(self, checkpoint: Path) -> Path:
        run = StoredFolder.at(self.mirror.storage, self._inside(checkpoint.parent.parent))
        with self.mirror.as_settings_error():
            run.bring(step_of(checkpoint))
        if not checkpoint.is_dir():
            name = self.path.name
            raise SettingsError(
                f"{run.told(checkpoint)} is damaged; nearest: --resume {name}, which goes on from an older one"
            )
        return checkpoint

    def _inside(self, path: Path) -> str:
        return path.relative_to(self.mirror.storage.folder).as_posix()

    def discard_after(self, step: int) -> list[Path]:
        self._discard(found for found in self.steps() if found > step)
        return super().discard_after(step)

    def prune(self, keep: int = KEPT_CHECKPOINTS) -> None:
        self._discard(self.steps()[:-keep])
        super().prune(keep)

    def _discard(self, steps: Iterable[int]) -> None:
        steps = list(steps)
        if steps:
            self.turn.check()
        self._delete(steps)

    def _delete(self, steps: Iterable[int]) -> None:
        for step in steps:
            self.mirror.delete([_name(step, ABOUT), _name(step, STATE)])

    def _copying(self) -> AbstractContextManager[None]:
        """One process at a time: ranks on one machine have one copy."""
        self.path.mkdir(parents=True, exist_ok=True)
        return alone(self.path / "copy", lambda: None)

    def _brought(self, step: int) -> bool:
        """Whether the checkpoint is here now, as it is in the store, and whole."""
        from gan_core.checkpoint import is_whole

        path, about = self.checkpoint(step), self.mirror.read(_name(step, ABOUT))
        if about is None:
            return False
        if (path / ABOUT).is_file() and (path / ABOUT).read_bytes() == about and is_whole(path):
            return True
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


def stored_names_with(file: str, storage: Storage) -> list[str]:
    """The names below a storage path in S3 whose folder has such a file. Raises SettingsError."""
    root = Mirror(storage, "")
    with root.told():
        return [name for name in root.store.folders() if Mirror(storage, name).about(file) is not None]


def _name(step: int, file: str) -> str:
    return f"checkpoints/step-{step:06d}/{file}"


def _steps(names: Iterable[str]) -> list[int]:
    """Of the checkpoints that are whole, lowest first."""
    return sorted(step_of(Path(name).parent) for name in names if name.endswith(f"/{ABOUT}"))
