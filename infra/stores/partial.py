"""A file that is on its way: pieces in any order, by one process at a time, gone on with by the next."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Partial:
    """A hidden file beside the one that is to be, as large as that, and a list of the pieces that are in it.

    Its name has a hash of `identity`: what was begun of another content is not gone on with.
    """

    def __init__(self, path: Path, size: int, piece: int, descriptor: int) -> None:
        self._path, self._size, self._piece, self._file = path, size, piece, descriptor
        self._list = path.with_suffix(".list")
        done = self._list.read_text().split() if self._list.exists() else []
        self._done = {int(number) for number in done if number.isdigit()}
        os.truncate(descriptor, size)

    @property
    def path(self) -> Path:
        """Where the bytes are."""
        return self._path

    def missing(self) -> list[tuple[int, int]]:
        """The first byte and the one after the last of each piece that is not there yet."""
        starts = [number * self._piece for number in range(-(-self._size // self._piece)) if number not in self._done]
        return [(start, min(start + self._piece, self._size)) for start in starts]

    def write(self, offset: int, content: bytes) -> None:
        """Some bytes of a piece."""
        while content:
            written = os.pwrite(self._file, content, offset)
            content, offset = content[written:], offset + written

    def finished(self, start: int) -> None:
        """All bytes of the piece that begins at `start` are written."""
        self._done.add(start // self._piece)
        with self._list.open("a") as file:
            file.write(f"{start // self._piece} ")

    def discard(self) -> None:
        """Nothing of it is of any use."""
        self._done.clear()
        for path in (self._path, self._list):
            path.unlink(missing_ok=True)

    def become(self, file: Path) -> None:
        """All pieces are there and right: it takes the file's place."""
        os.fsync(self._file)
        os.replace(self._path, file)
        self._list.unlink(missing_ok=True)


@contextmanager
def partial(file: Path, identity: str, size: int, piece: int) -> Iterator[Partial]:
    """The partial file beside `file`; waits while another process has it. What others began is deleted, unless they
    are at it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    mark = hashlib.sha256(f"{identity}/{size}/{piece}".encode()).hexdigest()[:16]
    path = file.with_name(f".{file.name}.{mark}.part")
    for other in set(file.parent.glob(f".{_literal(file.name)}.*.part")) - {path}:
        _delete_unless_locked(other)
    descriptor = _locked(path)
    try:
        yield Partial(path, size, piece, descriptor)
    finally:
        os.close(descriptor)


def _locked(path: Path) -> int:
    """Opens a file and locks it; if its last holder has moved or deleted it meanwhile, once more."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)


def _delete_unless_locked(path: Path) -> None:
    with suppress(OSError), path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
        path.with_suffix(".list").unlink(missing_ok=True)


def _literal(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
