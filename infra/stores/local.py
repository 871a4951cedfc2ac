"""A folder as a store, with the calls of one in S3."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from infra.files import hidden_name, write_new
from infra.stores.protocol import (
    CHUNK,
    About,
    NoPlaceError,
    NotThereError,
    Progress,
    RefusedError,
    StoreError,
    check_digest,
    checked_key,
    digest_of,
    is_whole,
    silent,
)

_ATTRIBUTE = "user.sha256"


class LocalStore:
    """A file's digest is an extended attribute of the file, so both are replaced at once.

    A file system without extended attributes keeps no digests: then only those that the caller gives are checked.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def url(self) -> str:
        return str(self._folder)

    def put(self, file: Path, key: str, progress: Progress = silent) -> str:
        with self._as_store_error(key), file.open("rb") as source:
            return self._put(source, key, progress)

    def write(self, key: str, content: bytes) -> None:
        with self._as_store_error(key):
            self._put(io.BytesIO(content), key, silent)

    def create(self, key: str, content: bytes) -> bool:
        with self._as_store_error(key):
            self._file(key).parent.mkdir(parents=True, exist_ok=True)
            return write_new(self._file(key), content)

    def _put(self, source: IO[bytes], key: str, progress: Progress) -> str:
        target = self._file(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with hidden_name(target) as aside:
            sha256 = _copied(source, aside, progress)
            with suppress(OSError):
                os.setxattr(aside, _ATTRIBUTE, sha256.encode())
            os.replace(aside, target)
        return sha256

    def get(self, key: str, file: Path, sha256: str | None = None, progress: Progress = silent) -> None:
        with self._as_store_error(key), self._file(key).open("rb") as source:
            size, wanted = os.fstat(source.fileno()).st_size, sha256 or _kept_digest(source.fileno())
            if is_whole(file, size, wanted):
                progress(size)
                return
            file.parent.mkdir(parents=True, exist_ok=True)
            with hidden_name(file) as aside:
                check_digest(f"{self.url}/{key}", _copied(source, aside, progress), wanted)
                os.replace(aside, file)

    def read(self, key: str) -> bytes:
        with self._as_store_error(key), self._file(key).open("rb") as source:
            content = source.read()
            check_digest(f"{self.url}/{key}", hashlib.sha256(content).hexdigest(), _kept_digest(source.fileno()))
            return content

    def about(self, key: str) -> About:
        with self._as_store_error(key), self._file(key).open("rb") as source:
            status = os.fstat(source.fileno())
            return About(status.st_size, _kept_digest(source.fileno()), status.st_mtime)

    def digest(self, key: str, progress: Progress = silent) -> str:
        with self._as_store_error(key):
            return digest_of(self._file(key), progress)

    def listed(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        if not self._folder.is_dir():
            raise self._absent()
        with self._as_store_error(""):
            places = os.walk(self._folder, onerror=_raised)
            found = [Path(place, name) for place, _, names in places for name in names if not name.startswith(".")]
        named = {path.relative_to(self._folder).as_posix(): path for path in found if path.is_file()}
        for key in sorted(named, key=str.encode):
            if key.startswith(prefix):
                yield key, named[key].stat().st_size

    def folders(self) -> Iterator[str]:
        if not self._folder.is_dir():
            raise self._absent()
        yield from sorted(
            (path.name for path in self._folder.iterdir() if path.is_dir() and not path.name.startswith(".")),
            key=str.encode,
        )

    def delete(self, key: str) -> None:
        with self._as_store_error(key):
            self._file(key).unlink(missing_ok=True)

    def _absent(self) -> NoPlaceError:
        return NoPlaceError(f"there is no folder {self._folder}")

    def _file(self, key: str) -> Path:
        return self._folder / checked_key(key)

    @contextmanager
    def _as_store_error(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            if not self._folder.is_dir():
                raise self._absent() from None
            raise NotThereError(f"there is no file {error.filename or self._folder / key}") from None
        except PermissionError as error:
            raise RefusedError(f"{error.filename or self._folder / key}: {error.strerror}") from None
        except OSError as error:
            raise StoreError(f"{error.filename or self._folder / key}: {error.strerror or error}") from None


def _raised(error: OSError) -> None:
    """For `os.walk`, which passes over folders that it cannot list. Only one that was deleted may be missing."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _copied(source: IO[bytes], target: Path, progress: Progress) -> str:
    """Copies to a new file and flushes it to the disk. Returns the sha256."""
    content = hashlib.sha256()
    with target.open("xb") as file:
        while chunk := source.read(CHUNK):
            file.write(chunk)
            content.update(chunk)
            progress(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    return content.hexdigest()


def _kept_digest(descriptor: int) -> str | None:
    try:
        return os.getxattr(descriptor, _ATTRIBUTE).decode()
    except OSError:
        return None
