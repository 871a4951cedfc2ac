"""Files: the cache folder, which all runs of this machine share, the digest of a file, and its replacement. Bars, which
show how far work on them and their contents is."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO

from gan_core.settings import SettingsError

_PART = 2**20

Bars = Callable[[str, float], AbstractContextManager[Callable[[float], None]]]
"""Begins a bar that counts to a number, and yields the function that moves it, which any thread may call."""


def no_bars(about: str, total: float) -> AbstractContextManager[Callable[[float], None]]:
    """Shows nothing."""
    return nullcontext(lambda _: None)


def cache_folder() -> Path:
    """`$GANFLEET_CACHE`, by default ~/.cache/ganfleet. What it holds can be made or fetched again.

    Raises SettingsError if the user has no home folder for it.
    """
    given = os.environ.get("GANFLEET_CACHE")
    if given:
        return Path(given)
    home = Path(os.path.expanduser("~"))
    folder = home / ".cache" / "ganfleet"
    if not home.is_absolute():
        raise SettingsError("there is no home folder for the cache", nearest="GANFLEET_CACHE=FOLDER")
    if not folder.exists() and not os.access(home, os.W_OK):
        raise SettingsError(f"the home folder {home} cannot hold the cache", nearest="GANFLEET_CACHE=FOLDER")
    return folder


def expanded(path: str | Path) -> Path:
    """The path with the home folder for `~`. Raises SettingsError if there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise SettingsError(f"{path}: there is no such home folder", nearest="a path without ~") from None


def file_digest(path: Path, read: Callable[[int], None] = lambda _: None) -> str:
    """sha256 of a file's bytes. `read` is called with the size of each part that was read. Raises OSError."""
    content = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while part := file.read(_PART):
            content.update(part)
            read(len(part))
    return content.hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file to write to, which takes the place of `path` in the end: a reader or a crash sees the old file or the
    new one. After an error the old one stays. Raises OSError if the folder does not exist."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with aside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        with suppress(OSError):
            aside.unlink()
