"""Files that are either old or new, never half written."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


def write_atomic(path: Path | str, data: bytes) -> None:
    """Put `data` at `path`: write it beside, fsync, then `os.replace`.

    A reader or a crash sees the old file or the new one, and a failure leaves nothing behind.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with aside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise


def lock_of(path: Path) -> Path:
    """The file that `alone` locks; it stays."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def alone(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """One process at a time per `path`, a file that may not exist yet; its holder's death lets go of it.

    `waiting` is called once if another process holds it.
    """
    lock = FileLock(lock_of(path))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
