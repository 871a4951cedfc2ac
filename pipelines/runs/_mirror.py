"""A folder of this machine beside the same in a store: what is kept in S3 is written here, then put there.

S3 has no append, no rename and no locks. So what is played is played in a copy on the machine that plays it; the store
is right wherever the two differ.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from infra.stores.protocol import About, NotThereError, Store
from infra.threads import each
from pipelines.settings import Storage, as_settings_error, open_store

THREADS = 8
_put: dict[Path, tuple[int, int]] = {}
"""The time of change and the size of the files that this process has put as they are now, or found so."""


@cache
def _store(storage: Storage) -> Store:
    return open_store(storage.path, storage)


@dataclass(frozen=True)
class Mirror:
    """What lies at one place below a storage path in S3, and this machine's copy of it. Calls raise StoreError."""

    storage: Storage
    inside: str
    """Where it is below `storage.path`, a relative POSIX path."""

    @property
    def path(self) -> Path:
        """The copy's folder."""
        return self.storage.folder / self.inside

    @property
    def url(self) -> str:
        """Where it is kept."""
        return f"{self.storage.path}/{self.inside}"

    def as_settings_error(self) -> AbstractContextManager[None]:
        """Raises what goes wrong inside as SettingsError, for what happens before anything is played."""
        return as_settings_error(f"storage.path={self.storage.path}")

    def put(self, files: Iterable[Path]) -> None:
        """Puts the files that there are and that this process has not yet put as they are now."""
        each(self._put_one, [file for file in files if _state(file) not in (None, _put.get(file))], THREADS)

    def _put_one(self, file: Path) -> None:
        state = _state(file)
        self.store.put(file, self._key(file.relative_to(self.path).as_posix()))
        if state is not None:
            _put[file] = state

    def get(self, names: Iterable[str]) -> None:
        """Makes these files of the copy what they are in the store: not there, if they are not there."""
        each(self._get_one, names, THREADS)

    def _get_one(self, name: str) -> None:
        file = self.path / name
        try:
            self.store.get(self._key(name), file)
        except NotThereError:
            file.unlink(missing_ok=True)
        self.note(file)

    def get_dated(self, names: Iterable[str]) -> None:
        """As `get`, of files that never change, with the times when they were put as their times of change; only those
        that are not here yet."""

        def get_one(name: str) -> None:
            self._get_one(name)
            modified = self.store.about(self._key(name)).modified
            os.utime(self.path / name, (modified, modified))
            self.note(self.path / name)

        each(get_one, [name for name in names if not (self.path / name).is_file()], THREADS)

    def note(self, file: Path) -> None:
        """The file is what it is in the store."""
        state = _state(file)
        if state is not None:
            _put[file] = state

    def read(self, name: str) -> bytes | None:
        """The bytes of a small file in the store; None if it is not there."""
        try:
            return self.store.read(self._key(name))
        except NotThereError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Puts a small file that this machine needs no copy of."""
        self.store.write(self._key(name), content)

    def about(self, name: str) -> About | None:
        """What the store knows of a file; None if it is not there."""
        try:
            return self.store.about(self._key(name))
        except NotThereError:
            return None

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """The files in the store whose names begin so, with their bytes."""
        return {key.removeprefix(self._key("")): size for key, size in self.store.listed(self._key(prefix))}

    def delete(self, names: Iterable[str]) -> None:
        """Deletes files from the store, one after the other."""
        for name in names:
            self.store.delete(self._key(name))
            _put.pop(self.path / name, None)

    @property
    def store(self) -> Store:
        """Of the storage path."""
        return _store(self.storage)

    def _key(self, name: str) -> str:
        return f"{self.inside}/{name}"


def shared_cache(storage: Storage) -> Mirror | None:
    """Where the files of `<storage.path>/cache` are kept; None if they are kept on a disk."""
    return Mirror(storage, "cache") if storage.remote else None


def _state(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size
