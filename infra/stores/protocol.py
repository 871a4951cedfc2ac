"""The protocol of a store of files: its calls, its errors, its options."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

Progress = Callable[[int], None]
"""Called with the number of bytes that were moved since the last call; negative if they must be moved again."""

CHUNK = 2**20


class StoreError(ValueError):
    """What a store could not do, in one line."""


class NotThereError(StoreError):
    """There is no such key."""


class NoPlaceError(NotThereError):
    """There is no such bucket or folder."""


class RefusedError(StoreError):
    """The store denies access, or the credentials are missing."""


class UnreachableError(StoreError):
    """The store does not answer, or its answer broke off."""


class DamagedError(StoreError):
    """The bytes in the store are not those that were put there."""


def silent(_: int) -> None:
    """Progress that nobody shows."""


@dataclass(frozen=True)
class About:
    """What a store knows of a key without reading its bytes."""

    size: int
    """Bytes."""
    sha256: str | None
    """Of the bytes that were put; None if another program put them."""
    modified: float = 0.0
    """When they were put, in seconds since 1970, by the store's clock."""


class Store(Protocol):
    """Files by key: relative POSIX paths. Every call raises StoreError.

    A key holds one whole file or none. If two writers put a key at the same time, one wins.
    """

    @property
    def url(self) -> str:
        """The place as a person writes it."""

    def put(self, file: Path, key: str, progress: Progress = silent) -> str:
        """Copies a file to a key. Returns its sha256, which the store keeps with it."""

    def get(self, key: str, file: Path, sha256: str | None = None, progress: Progress = silent) -> None:
        """Copies a key to a file, unless the file is there already with these bytes. It is never there in part.

        Raises DamagedError if the digest is not `sha256`; without it, the digest that the store keeps.
        """

    def write(self, key: str, content: bytes) -> None:
        """Puts a few bytes under a key."""

    def create(self, key: str, content: bytes) -> bool:
        """Puts a few bytes under a new key; returns False if the key is there. Of several writers at once one returns
        True, if the store knows conditional requests; of one that does not, each may."""

    def read(self, key: str) -> bytes:
        """The bytes of a small file. Raises DamagedError."""

    def about(self, key: str) -> About:
        """Size, digest and time. Raises NotThereError."""

    def digest(self, key: str, progress: Progress = silent) -> str:
        """sha256 of the bytes that are there now; all are read."""

    def listed(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """All keys that begin with `prefix`, with their sizes in bytes, sorted by the keys' UTF-8."""

    def folders(self) -> Iterator[str]:
        """The folders at the top, by name. What lies below them is not listed."""

    def delete(self, key: str) -> None:
        """Deletes a key. It need not exist."""


@dataclass(frozen=True)
class StoreOptions:
    """How a store is reached, besides the environment variables and profiles that AWS's own tools read."""

    endpoint_url: str | None = None
    """The URL of a store that is not AWS's own."""
    piece: int = 8 * CHUNK
    """Bytes of one request. Larger files are moved in pieces; S3 wants at least 5 MiB."""
    threads: int = 8
    """Requests at the same time, for each file."""
    attempts: int = 5
    """Of each request, and of each piece whose answer broke off."""


def checked_key(key: str) -> str:
    """Returns the key. Raises StoreError if it is no relative path in its shortest form."""
    if key != PurePosixPath(key).as_posix() or key.startswith("/") or ".." in key.split("/") or key in ("", "."):
        raise StoreError(f"'{key}' is no relative path")
    return key


def digest_of(file: Path, progress: Progress = silent) -> str:
    """sha256 of a file. Raises OSError."""
    content = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            content.update(chunk)
            progress(len(chunk))
    return content.hexdigest()


def is_whole(file: Path, size: int, sha256: str | None) -> bool:
    """Whether a file exists and has this size and digest; False if the digest is not known."""
    try:
        return sha256 is not None and file.stat().st_size == size and digest_of(file) == sha256
    except OSError:
        return False


def check_digest(where: str, found: str, wanted: str | None) -> None:
    """Raises DamagedError if a digest is not the wanted one; None accepts any."""
    if wanted is not None and found != wanted:
        raise DamagedError(f"{where} is damaged: its sha256 is {found[:16]}..., not {wanted[:16]}...")
