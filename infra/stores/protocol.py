"""Where files are kept beyond this machine: the protocol, its local twin, and which of them a URL means."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

Progress = Callable[[int], None]
"""Is told of every so many bytes that they are where they were to go."""

CHUNK = 2**20


class StoreError(ValueError):
    """What went wrong between here and a store, in one line."""


class NotThereError(StoreError):
    """There is no such key."""


class NoPlaceError(NotThereError):
    """Not even the bucket or folder is there."""


class RefusedError(StoreError):
    """The store knows who asks, or cannot know, and says no."""


class UnreachableError(StoreError):
    """Nobody answers, or no longer."""


class DamagedError(StoreError):
    """The bytes that are there are not those that were put there."""


def silent(_: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class About:
    """What a store knows of a key without reading it."""

    size: int
    """Bytes."""
    sha256: str | None
    """Of the bytes that were put; None if somebody else put them."""
    modified: float = 0.0
    """When they were put, in seconds since the epoch, by the store's clock."""


class Store(Protocol):
    """Files by key: relative POSIX paths. Every call raises StoreError; a key holds one whole file or none.

    Of two writers of a key at once, one wins.
    """

    @property
    def url(self) -> str:
        """Where it is, as a person writes it."""

    def put(self, file: Path, key: str, progress: Progress = silent) -> str:
        """Copies a file there. Returns its sha256, which is kept beside it."""

    def get(self, key: str, file: Path, sha256: str | None = None, progress: Progress = silent) -> None:
        """Copies a key to a file, which is whole or not there; nothing is copied if it is there already.

        What was interrupted goes on where it was. Its digest must be `sha256`, or else the one that was kept; raises
        DamagedError.
        """

    def write(self, key: str, content: bytes) -> None:
        """Puts a few bytes."""

    def read(self, key: str) -> bytes:
        """A few bytes, their digest checked."""

    def about(self, key: str) -> About:
        """Size and digest, without reading. Raises NotThereError."""

    def digest(self, key: str, progress: Progress = silent) -> str:
        """sha256 of the bytes as they lie there now."""

    def listed(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """All keys that begin with `prefix`, and their sizes in bytes, in order of the keys' bytes."""

    def folders(self) -> Iterator[str]:
        """The first parts of the keys that have several, each once, without asking for what lies below them."""

    def delete(self, key: str) -> None:
        """Makes sure that a key is not there."""


@dataclass(frozen=True)
class StoreOptions:
    """How a store is reached, beside the environment variables and profiles that AWS's own tools read."""

    endpoint_url: str | None = None
    """Of a store that is not AWS's own."""
    piece: int = 8 * CHUNK
    """Bytes that are moved at once; larger files go in pieces, several at a time. S3 wants 5 MiB or more."""
    threads: int = 8
    attempts: int = 5
    """Of each request, and of each piece without a byte in between; the pauses grow."""


def checked_key(key: str) -> str:
    """The key. Raises StoreError for one that would mean another file in a folder."""
    if key != PurePosixPath(key).as_posix() or key.startswith("/") or ".." in key.split("/") or key in ("", "."):
        raise StoreError(f"'{key}' is no relative path")
    return key


def digest_of(file: Path, progress: Progress = silent, size: int | None = None) -> str:
    """sha256 of a file, or of its first `size` bytes. Raises OSError."""
    content, left = hashlib.sha256(), file.stat().st_size if size is None else size
    with file.open("rb") as opened:
        while chunk := opened.read(min(CHUNK, left)):
            left -= len(chunk)
            content.update(chunk)
            progress(len(chunk))
    return content.hexdigest()


def is_whole(file: Path, size: int, sha256: str | None) -> bool:
    """Whether a file is known to be what it should be."""
    try:
        return sha256 is not None and file.stat().st_size == size and digest_of(file) == sha256
    except OSError:
        return False


def check_digest(where: str, found: str, wanted: str | None) -> None:
    """Raises DamagedError."""
    if wanted is not None and found != wanted:
        raise DamagedError(f"{where} is damaged: its sha256 is {found[:16]}..., not {wanted[:16]}...")
