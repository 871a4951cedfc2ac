"""Files that a command writes where the user says: on this machine, or at `s3://bucket/prefix/FILE`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gan_core.settings import SettingsError
from infra.stores.protocol import NoPlaceError, NotThereError, UnreachableError
from pipelines.settings import Storage, as_settings_error, open_store


@contextmanager
def exported(option: str, target: str, storage: Storage) -> Iterator[Path]:
    """The local path to write to. A file for S3 is uploaded at the end of the block, if nothing was raised in it.

    Raises SettingsError before the block if the S3 store cannot be used or `target` names no file.
    """
    if target.startswith("s3://"):
        prefix, _, name = target.rpartition("/")
        if not name or prefix.count("/") < 2:
            raise SettingsError(f"{option} {target} names no file", nearest=f"{option} {target.rstrip('/')}/found")
        store = open_store(prefix, storage)
        with tempfile.TemporaryDirectory() as folder, as_settings_error(f"{option}={target}"):
            try:
                store.about(name)
            except (NoPlaceError, UnreachableError):
                raise
            except NotThereError:
                pass
            yield Path(folder, name)
            store.put(Path(folder, name), name)
    else:
        yield Path(target)
