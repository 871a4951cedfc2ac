"""Files that are either old or new, never half written."""

import os
import uuid
from contextlib import suppress
from pathlib import Path


def write_atomic(path: Path | str, data: bytes) -> None:
    """Writes `data` to a hidden file next to `path`, flushes it to the disk and renames it to `path`.

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
