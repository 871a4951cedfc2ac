"""Files that a user names to be written: on this machine, or `s3://bucket/prefix/FILE`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gan_core.settings import SettingsError
from infra.stores.protocol import NoPlaceError, NotThereError, UnreachableError
from pipelines.settings import Storage, as_settings_error, open_store


@contextmanager
def exported(option: str, place: str, storage: Storage) -> Iterator[Path]:
    """Where to write it; what goes to S3 is put there afterwards, if all went well.

    Raises SettingsError, before anything is done, for a place that cannot be written to.
    """
    if place.startswith("s3://"):
        above, _, name = place.rpartition("/")
        if not name or above.count("/") < 2:
            raise SettingsError(f"{option} {place} names no file; nearest: {option} {place.rstrip('/')}/found")
        store = open_store(above, storage)
        with tempfile.TemporaryDirectory() as aside, as_settings_error(f"{option}={place}"):
            try:
                store.about(name)
            except (NoPlaceError, UnreachableError):
                raise
            except NotThereError:
                pass
            yield Path(aside, name)
            store.put(Path(aside, name), name)
    else:
        yield Path(place)
