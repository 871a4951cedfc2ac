"""A cache of bounded size: when it is full, the entry that was used least recently is deleted, unless it is in use."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from infra.files import write_atomic
from infra.locks import alone, lock_shared, unless_shared

_SIZE = ".size"
_held: dict[Path, int] = {}
"""Descriptors of the shared locks on the entries that this process uses, by lock file."""


class FullError(ValueError):
    """The entry does not fit, and no other entry can be deleted."""

    def __init__(self, needed: int, used: int) -> None:
        super().__init__(f"{needed} bytes are needed, {used} more are in use")
        self.needed, self.used = needed, used


@dataclass(frozen=True)
class BoundedFolder:
    """A folder of entries, each a folder. Several processes may use it, also of several users of one disk."""

    root: Path
    limit: int
    """Bytes."""

    def use(
        self,
        name: str,
        size: int,
        whole: Callable[[Path], bool],
        make: Callable[[Path], None],
        waiting: Callable[[], None],
    ) -> Path:
        """The folder of an entry. It is not deleted while this process lives.

        If the entry is not `whole`, one process calls `make` to fill its folder, which may hold what an earlier,
        interrupted `make` wrote. The others call `waiting` once and wait. The entry counts as `size` bytes.
        Raises FullError, and what `make` raises; what `make` wrote until then stays.
        """
        folder, locks = self.root / name, self.root / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        self._hold(name)
        with alone(locks / name, waiting):
            if not whole(folder):
                self._free(name, size)
                make(folder)
        return folder

    def _hold(self, name: str) -> None:
        file = self._used(name)
        if file not in _held:
            _held[file] = lock_shared(file)
        os.utime(file)

    def _used(self, name: str) -> Path:
        """A file locked by all who use the entry. Its modification time is when the entry was last used."""
        return self.root / "locks" / f"{name}.used"

    def _free(self, name: str, size: int) -> None:
        """Deletes other entries until the new one fits, and records its size."""
        with alone(self.root / "locks" / "room", lambda: None):
            others = {entry: _size(entry) for entry in self._entries() if entry.name != name}
            for entry in sorted(others, key=lambda entry: self._used(entry.name).stat().st_mtime_ns):
                if sum(others.values()) + size <= self.limit or size > self.limit:
                    break
                if self._delete_unused(entry):
                    del others[entry]
            if sum(others.values()) + size > self.limit:
                raise FullError(size, sum(others.values()) if size <= self.limit else 0)
            (self.root / name).mkdir(exist_ok=True)
            write_atomic(self.root / name / _SIZE, str(size).encode())

    def _entries(self) -> Iterator[Path]:
        return (path.parent for path in self.root.glob(f"*/{_SIZE}") if self._used(path.parent.name).exists())

    def _delete_unused(self, entry: Path) -> bool:
        """Deletes an entry that nobody uses. Returns whether it did."""
        with unless_shared(self._used(entry.name)) as unused:
            if unused:
                aside = self.root / f".{uuid.uuid4().hex}.old"
                os.replace(entry, aside)
                shutil.rmtree(aside, ignore_errors=True)
            return unused


def release_all() -> None:
    """Releases every entry that this process uses."""
    while _held:
        os.close(_held.popitem()[1])


def _size(entry: Path) -> int:
    with suppress(OSError, ValueError):
        return int((entry / _SIZE).read_text())
    return 0
