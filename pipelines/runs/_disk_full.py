"""A disk that is full: told with the setting that says where it is."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gan_core.caches import cache_folder
from infra.stores.protocol import StoreError
from pipelines.settings import Storage

_FULL = (errno.ENOSPC, errno.EDQUOT)


class FullDiskError(StoreError):
    """No space is left for what was to be written. Once there is some, the run can be gone on with."""


@contextmanager
def full_disk_told(storage: Storage) -> Iterator[None]:
    """Raises FullDiskError for what says so in the system's words; on the machine whose disk it is."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise FullDiskError(_line(error, storage)) from error


def _line(error: OSError, storage: Storage) -> str:
    """A file that was open already has no name in the error: then it is the place with the least space left."""
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
    """Bytes for a folder that may not be there yet."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free
