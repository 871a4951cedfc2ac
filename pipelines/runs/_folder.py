"""The life of a run folder: it is created, changed and withdrawn, and synchronised with the place that keeps it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_core.settings import SettingsError
from infra.files import hidden_name, write_atomic, write_new
from infra.locks import HeldError, alone, held, is_held, lock_of
from pipelines.runs._paths import RunPaths, step_of

if TYPE_CHECKING:
    from pipelines.runs._journal_segments import JournalSegments

KEPT_CHECKPOINTS = 3

_LOG = logging.getLogger(__name__)


Watch = Callable[["RunFolder", dict[str, Any], Path | None], None]
"""What is called with each logged row of a run or trial, and the checkpoint of its step if there is one. It raises
nothing."""


class NameTakenError(SettingsError):
    """The name is that of another run, or another driver plays the run."""


@dataclass(frozen=True)
class RunFolder(RunPaths):
    """The folder of a run, a search or a trial on a disk that all of its processes see.

    On such a disk most of the synchronisation has nothing to do. `S3RunFolder` (`pipelines.runs._s3_folder`) is the
    folder of a run that S3 keeps, of which each machine has a copy.
    """

    @property
    def where(self) -> str:
        """The folder's address, to show to the user."""
        return str(self.path)

    @property
    def home(self) -> str:
        """The storage path that the folder lies in, to show to the user."""
        return str(self.path.parent)

    def shown(self, path: Path) -> str:
        """The address of something inside, to show to the user."""
        return str(path)

    def free_name(self) -> str:
        """A name like this one that is still free: the name with the lowest free number."""
        taken = self._taken_names()
        return next(name for n in range(2, len(taken) + 3) if (name := f"{self.path.name}-{n}") not in taken)

    def _taken_names(self) -> set[str]:
        return {path.name for path in self.path.parent.glob("*")}

    # Life: create, change, withdraw

    def exists(self) -> bool:
        """Whether the run has started. Raises SettingsError if the store cannot say."""
        return self.experiment.is_file()

    def create(self, experiment_yaml: str, origin: Mapping[str, str] | None = None) -> None:
        """Makes the folder of a new run, which may hold the record of its job already; `origin`: tags that say where
        its settings come from.

        Of several processes that call it at once, one gets the name. Raises NameTakenError.
        """
        self.check_free()
        self.path.mkdir(parents=True, exist_ok=True)
        if not write_new(self.experiment, experiment_yaml.encode()):
            raise self._taken()
        self.data.unlink(missing_ok=True)  # of an earlier run, whose other files were deleted
        self._write_identity(origin or {})

    def check_free(self) -> None:
        """Raises NameTakenError if the run has started. Writes nothing."""
        if self.exists():
            raise self._taken()

    def _taken(self) -> NameTakenError:
        return NameTakenError(
            f"name={self.path.name} exists in {self.home}",
            nearest=f"name={self.free_name()}, or --resume {self.path.name} to go on with it",
        )

    def _write_identity(self, origin: Mapping[str, str]) -> None:
        write_atomic(self.identity, json.dumps({"id": uuid.uuid4().hex, "origin": dict(origin)}).encode())

    def change(self, experiment_yaml: bytes) -> None:
        """Writes the changed settings of a run that is resumed."""
        write_atomic(self.experiment, experiment_yaml)
        if not self.identity.is_file():  # the driver that created the run was killed between the two files
            self._write_identity({})

    def withdraw(self) -> None:
        """Removes a run that was refused before it started, so that the corrected command can use the name. Other files
        in the folder stay."""
        shutil.rmtree(self.checkpoint(0), ignore_errors=True)
        with suppress(OSError):
            self.checkpoint(0).parent.rmdir()
        locks = (lock_of(self.writer), lock_of(self.driver))
        written = (
            self.identity,
            self.data,
            self.measure,
            self.code,
            self.log,
            self.ray_log,
            self.journal,
            self.untracked,
        )
        for path in (*written, self.experiment, *locks):  # the name is free after the rest
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()

    def remove(self) -> None:
        """Deletes the run with all of its files. Raises NameTakenError if a driver plays it."""
        with hidden_name(self.path) as aside:
            with self.sole_driver():
                os.rename(self.path, aside)  # at once, so that no half of a run is ever found
            shutil.rmtree(aside)

    def written_at(self) -> float:
        """When the run last wrote something, in seconds since 1970."""
        files = (self.experiment, self.metrics, self.journal, self.below("confirm").journal)
        return max(file.stat().st_mtime for file in files if file.is_file())

    @contextmanager
    def sole_driver(self) -> Iterator[None]:
        """Holds the folder for the driver of the run, which has it for its whole life. A driver that is killed loses it
        at once. Raises NameTakenError if another driver has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with held(self.driver):
                yield
        except HeldError as error:
            raise NameTakenError(
                f"'{self.path.name}' is being played by {error}",
                nearest=f"wait for its end, or name={self.free_name()} for a new one",
            ) from None

    def driven(self) -> bool:
        """Whether a driver that lives plays the run. For a run in S3 it knows the drivers of this machine only."""
        return is_held(self.driver)

    @contextmanager
    def sole_writer(self, waiting: Callable[[str], None] = _LOG.warning) -> Iterator[None]:
        """Holds the folder's lock. If another process holds it, calls `waiting` with a line that says so, and waits:
        workers can outlive a killed driver for a moment."""
        self.path.mkdir(parents=True, exist_ok=True)
        with alone(self.writer, lambda: waiting(f"{self.path}: another process still writes; waiting for it")):
            yield

    # Synchronisation with the place that keeps the run

    def claim(self) -> None:
        """Makes this driver the owner of the run and of the folders inside: an earlier driver and its workers can no
        longer save or delete. A search's driver calls it once it has locked the journal."""

    def restore(self, until: int | None = None) -> None:
        """Makes the copy on this machine what the run resumes from, and nothing else. Only the writer calls it.

        `until`: the last step that counts; None: all steps count.
        """

    def save(self, step: int | None = None) -> None:
        """Uploads everything played so far, with the checkpoint at `step` if one is given, and deletes all but the
        newest checkpoints."""
        if step is not None:
            self.prune()

    def refresh(self, step: int | None = None) -> None:
        """Downloads what the writer has saved, with the checkpoint at `step` if one is given. For readers."""

    def refresh_file(self, file: Path) -> None:
        """Downloads one file, or deletes the copy if the store has no such file."""

    def upload(self, *files: Path) -> None:
        """Uploads files that the driver wrote."""

    def delete(self, file: Path) -> None:
        """Deletes a file that the driver wrote."""
        file.unlink(missing_ok=True)

    def ray_storage(self, inside: str, nodes: int) -> dict[str, Any]:
        """Where Ray keeps its own files, as arguments of RunConfig."""
        return {"storage_path": str(self.path / inside)}

    def segments(self) -> JournalSegments | None:
        """The copy of the journal in the store; None if the journal on this disk is all there is."""
        return None

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints that are kept, lowest first."""
        return [step_of(path) for path in self.checkpoints()]

    def copy(self, step: int, into: Path) -> None:
        """Copies a checkpoint to a folder that does not exist yet. Raises OSError or shutil.Error if the checkpoint is
        deleted meanwhile."""
        shutil.copytree(self.checkpoint(step), into)

    def local_checkpoint(self, checkpoint: Path) -> Path:
        """Makes a checkpoint of this run or of a trial inside, and the files of its run, readable on this machine.

        Raises SettingsError if the checkpoint is damaged.
        """
        return checkpoint

    def discard_after(self, step: int) -> list[Path]:
        """Deletes the checkpoints later than `step`; returns the others, oldest first."""
        kept = [path for path in self.checkpoints() if step_of(path) <= step]
        for later in set(self.checkpoints()) - set(kept):
            shutil.rmtree(later)
        return kept

    def prune(self, keep: int = KEPT_CHECKPOINTS) -> None:
        """Deletes all but the newest checkpoints."""
        for old in self.checkpoints()[:-keep]:
            shutil.rmtree(old, ignore_errors=True)
