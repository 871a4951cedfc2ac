"""A folder of what can be had again, up to a size; what was used least recently, and by nobody now, goes first."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from infra.files import alone, write_atomic

_SIZE = ".size"
_held: dict[Path, int] = {}
"""The locks that say what this process uses: shared ones, which end with it."""


class FullError(ValueError):
    """There is no room, and nothing that may go."""

    def __init__(self, needed: int, used: int) -> None:
        super().__init__(f"{needed} bytes are needed, {used} more are in use")
        self.needed, self.used = needed, used


@dataclass(frozen=True)
class BoundedFolder:
    """Entries are folders. Several processes, also of several users of one disk, may have the same one."""

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
        """The entry, made by one process while the others wait, and not deleted while this process lives.

        `make` fills the folder, where something may be already; the entry counts `size` bytes. `waiting` is called
        once if another process makes it. Raises FullError, and whatever `make` raises: what it has done is kept.
        """
        folder, locks = self.root / name, self.root / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        self._hold(name)
        with alone(locks / name, waiting):
            if not whole(folder):
                self._make_room(name, size)
                make(folder)
        return folder

    def _hold(self, name: str) -> None:
        file = self._used(name)
        if file not in _held:
            _held[file] = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(_held[file], fcntl.LOCK_SH)
        os.utime(file)

    def _used(self, name: str) -> Path:
        """Locked by those who use an entry; its time of change is that of its last use."""
        return self.root / "locks" / f"{name}.used"

    def _make_room(self, name: str, size: int) -> None:
        with alone(self.root / "locks" / "room", lambda: None):
            others = {entry: _size(entry) for entry in self._entries() if entry.name != name}
            for entry in sorted(others, key=lambda entry: self._used(entry.name).stat().st_mtime_ns):
                if sum(others.values()) + size <= self.limit or size > self.limit:
                    break
                if self._deleted(entry):
                    del others[entry]
            if sum(others.values()) + size > self.limit:
                raise FullError(size, sum(others.values()) if size <= self.limit else 0)
            (self.root / name).mkdir(exist_ok=True)
            write_atomic(self.root / name / _SIZE, str(size).encode())

    def _entries(self) -> Iterator[Path]:
        return (path.parent for path in self.root.glob(f"*/{_SIZE}") if self._used(path.parent.name).exists())

    def _deleted(self, entry: Path) -> bool:
        """Whether it could be: nobody uses it, and nobody begins to meanwhile."""
        with _exclusive(self._used(entry.name)) as nobody:
            if nobody:
                aside = self.root / f".{uuid.uuid4().hex}.old"
                os.replace(entry, aside)
                shutil.rmtree(aside, ignore_errors=True)
            return nobody


def let_go() -> None:
    """This process uses nothing any more."""
    while _held:
        os.close(_held.popitem()[1])


@contextmanager
def _exclusive(file: Path) -> Iterator[bool]:
    descriptor = os.open(file, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _size(entry: Path) -> int:
    with suppress(OSError, ValueError):
        return int((entry / _SIZE).read_text())
    return 0
