"""Files that are either old or new, never half written."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def hidden_name(path: Path) -> Iterator[Path]:
    """A hidden name next to a file, to write to and then rename. A file that still has it in the end is deleted."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield aside
    finally:
        with suppress(OSError):
            aside.unlink()


def write_atomic(path: Path | str, data: bytes) -> None:
    """Writes `data` to a hidden file next to `path`, flushes it to the disk and renames it to `path`.

    A reader or a crash sees the old file or the new one, and a failure leaves nothing behind.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    with hidden_name(Path(path)) as aside:
        with aside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
