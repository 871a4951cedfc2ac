"""A folder in a store and its copy on this machine: files are written to the copy, then uploaded.

S3 has no append, no rename and no locks, so a run is played in a copy on the machine that plays it. Where the two
differ, the store is right.
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
_uploaded: dict[Path, tuple[int, ...] | None] = {}
"""Inode, size and times of each file that this process knows to be equal to the one in the store."""


@cache
def _store(storage: Storage) -> Store:
    return open_store(storage.path, storage)


@dataclass(frozen=True)
class Mirror:
    """One folder below a storage path in S3, and this machine's copy of it. Methods raise StoreError."""

    storage: Storage
    inside: str
    """The folder, as a POSIX path relative to `storage.path`."""

    @property
    def path(self) -> Path:
        """The folder of the copy."""
        return self.storage.folder / self.inside

    @property
    def url(self) -> str:
        """The address of the folder in the store."""
        return f"{self.storage.path}/{self.inside}"

    def as_settings_error(self) -> AbstractContextManager[None]:
        """Raises the store's errors as SettingsError, for what happens before a run starts."""
        return as_settings_error(f"storage.path={self.storage.path}")

    def upload(self, files: Iterable[Path]) -> None:
        """Uploads those of the files that exist and that this process has not uploaded as they are now."""
        each(self._upload_one, [file for file in files if _state(file) not in (None, _uploaded.get(file))], THREADS)

    def _upload_one(self, file: Path) -> None:
        state = _state(file)
        self.store.put(file, self._key(file.relative_to(self.path).as_posix()))
        _uploaded[file] = state

    def download(self, names: Iterable[str]) -> None:
        """Makes these files of the copy equal to those in the store; a file that the store lacks is deleted."""
        each(self._download_one, names, THREADS)

    def _download_one(self, name: str) -> None:
        file = self.path / name
        try:
            self.store.get(self._key(name), file)
        except NotThereError:
            file.unlink(missing_ok=True)
        self.mark_same(file)

    def download_dated(self, names: Iterable[str]) -> None:
        """Downloads files that never change, if the copy lacks them; their modification time is the time of their
        upload."""

        def download_one(name: str) -> None:
            self._download_one(name)
            modified = self.store.about(self._key(name)).modified
            os.utime(self.path / name, (modified, modified))
            self.mark_same(self.path / name)

        each(download_one, [name for name in names if not (self.path / name).is_file()], THREADS)

    def mark_same(self, file: Path) -> None:
        """Remembers that the file is equal to the one in the store."""
        _uploaded[file] = _state(file)

    def read(self, name: str) -> bytes | None:
        """The bytes of a small file in the store; None if the store has no such file."""
        try:
            return self.store.read(self._key(name))
        except NotThereError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Writes a small file to the store, without a copy on this machine."""
        self.store.write(self._key(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Writes a small file that the store lacks. Returns False if the store has one."""
        return self.store.create(self._key(name), content)

    def about(self, name: str) -> About | None:
        """Size, time and digest of a file in the store; None if the store has no such file."""
        try:
            return self.store.about(self._key(name))
        except NotThereError:
            return None

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """The files in the store whose names begin with `prefix`, with their sizes in bytes."""
        return {key.removeprefix(self._key("")): size for key, size in self.store.listed(self._key(prefix))}

    def delete(self, names: Iterable[str]) -> None:
        """Deletes files from the store, one after the other."""
        for name in names:
            self.store.delete(self._key(name))
            _uploaded.pop(self.path / name, None)

    @property
    def store(self) -> Store:
        """The store of the storage path."""
        return _store(self.storage)

    def _key(self, name: str) -> str:
        return f"{self.inside}/{name}"


def shared_cache(storage: Storage) -> Mirror | None:
    """The mirror of `<storage.path>/cache`; None if the storage path is a folder on a disk."""
    return Mirror(storage, "cache") if storage.remote else None


def _state(file: Path) -> tuple[int, ...] | None:
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
