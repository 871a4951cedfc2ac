"""Files that a dataset is read from, and the digest of their contents: all that is made of them is known by it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from gan_core.data.image_files import in_order
from gan_core.files import Bars, file_digest, no_bars, replacing

_AHEAD = 64
_MB = 1e6
_SETTLED = 2 * 10**9
"""Nanoseconds. A file that changed more recently may change again without another time: file systems count time in
steps of up to two seconds."""


class Stamp(NamedTuple):
    """What the file system says of files without reading them. Equal digests mean equal contents, because each write
    changes a file's ctime, which no program can set."""

    digest: str
    """Of the files' names, inodes, sizes and times."""
    newest: int
    """When a file changed last, in nanoseconds since 1970."""
    size: int
    """Of all files, in bytes."""


@dataclass(frozen=True)
class FileSet:
    """Files below a folder, in order."""

    root: Path
    files: Sequence[Path]

    def stamp(self) -> Stamp:
        """Reads no file."""
        whole, newest, size = hashlib.sha256(), 0, 0
        for path in self.files:  # there may be a million
            status = _status(path)
            about: tuple[int, ...] = ()
            if status is not None:
                newest, size = max(newest, status.st_ctime_ns), size + status.st_size
                about = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            whole.update(repr((self._name(path), about)).encode())
        return Stamp(whole.hexdigest(), newest, size)

    def content(self, stamp: Stamp, cache: Path, bars: Bars = no_bars) -> str:
        """A digest of the files' names relative to `root`, and of their contents. The place and the times of the files
        do not matter. A file that cannot be read counts as one without content.

        `cache` keeps it with the stamp, so that files are read again only if one of them may have changed.
        """
        from filelock import FileLock

        memo = cache / f"{hashlib.sha256(os.fsencode(self.root)).hexdigest()[:32]}.json"
        known = _known(memo, stamp)
        if known:
            return known
        with suppress(OSError):  # a cache that cannot be written has no lock
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(memo.with_suffix(".lock")):  # of the processes of a machine one reads the files
                return _known(memo, stamp) or self._read(stamp, memo, bars)
        return self._read(stamp, memo, bars)

    def _read(self, stamp: Stamp, memo: Path, bars: Bars) -> str:
        began = time.time_ns()
        whole, all_read = hashlib.sha256(), True
        with bars("MB of files read", stamp.size / _MB) as move:
            digests = in_order(partial(_content, move=move), self.files, _AHEAD)
            for path, digest in zip(self.files, digests, strict=True):
                all_read &= digest is not None
                whole.update(repr((self._name(path), digest)).encode())
        if all_read and stamp.newest + _SETTLED < began:
            _keep(memo, {"stamp": stamp.digest, "content": whole.hexdigest()})
        return whole.hexdigest()

    def _name(self, path: Path) -> bytes:
        return os.fsencode(path)[len(os.fsencode(self.root)) :]


def _status(path: Path) -> os.stat_result | None:
    """None if there is no such file, or if it is a link to nothing."""
    try:
        return path.stat()
    except OSError:
        return None


def _known(memo: Path, stamp: Stamp) -> str:
    """What the cache knows of files with that stamp; empty if nothing."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads(memo.read_bytes())
        if known["stamp"] == stamp.digest:
            return str(known["content"])
    return ""


def _content(path: Path, move: Callable[[float], None]) -> str | None:
    """The digest of one file; None if it cannot be read."""
    try:
        return file_digest(path, lambda size: move(size / _MB))
    except OSError:
        return None


def _keep(memo: Path, about: dict[str, str]) -> None:
    """Replaces the file atomically. A cache that cannot be written costs time only."""
    with suppress(OSError):
        memo.parent.mkdir(parents=True, exist_ok=True)
        with replacing(memo) as file:
            file.write(json.dumps(about).encode())
