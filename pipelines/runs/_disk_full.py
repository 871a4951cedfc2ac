"""A full disk, as an error that names the setting which chose the disk."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gan_core.files import cache_folder
from infra.stores.protocol import StoreError
from pipelines.settings import Storage

_FULL = (errno.ENOSPC, errno.EDQUOT)


class FullDiskError(StoreError):
    """No space is left on a disk. Once there is some, the run can be resumed."""


@contextmanager
def as_full_disk_error(storage: Storage) -> Iterator[None]:
    """Raises the system's error of a full disk as FullDiskError. It must run on the machine that has the disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise FullDiskError(_message(error, storage)) from error


def _message(error: OSError, storage: Storage) -> str:
    """The error with its disk, the free space there, and what to do.

    The error of a write to a file that was already open does not name the file; then the fullest disk is assumed.
    """
    cache = cache_folder().absolute()
    places = {cache: f"the cache {cache}"}
    if not storage.remote:
        places = {storage.folder: f"storage.path={storage.path}", **places}
    file = None if error.filename is None else Path(error.filename)
    inside = [place for place in places if file is None or file.is_relative_to(place)]
    if not inside:
        return f"{file}: {error.strerror}; nearest: room there"
    place = min(inside, key=_free)
    right = "room there" + (", or GANFLEET_CACHE=FOLDER on another disk" if place == cache else "")
    return f"{places[place]} ({_free(place) / 1e9:.1f} GB free): {error.strerror}; nearest: {right}"


def _free(folder: Path) -> int:
    """Free bytes on the disk of a folder that may not exist yet."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free
