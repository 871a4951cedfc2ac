"""Files that are either old or new, never half written."""

import errno
import os
import re
import shutil
import time
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


def write_new(path: Path, data: bytes) -> bool:
    """As `write_atomic`, unless the file exists. Of several processes that call it at once, one returns True.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    with hidden_name(path) as aside:
        _write(aside, data)
        try:
            os.link(aside, path)
        except FileExistsError:
            return os.stat(aside).st_nlink == 2  # NFS may have lost its answer to a link that it made
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                raise
            return _write_without_links(path, aside)
    return True


def _write_without_links(path: Path, aside: Path) -> bool:
    """`write_new` on a file system that has no hard links: a process that is killed here leaves an empty file."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    except FileExistsError:
        return False
    os.replace(aside, path)
    return True


def write_atomic(path: Path | str, data: bytes) -> None:
    """Writes `data` to a hidden file next to `path`, flushes it to the disk and renames it to `path`.

    A reader or a crash sees the old file or the new one, and a failure leaves nothing behind.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    with hidden_name(Path(path)) as aside:
        _write(aside, data)
        os.replace(aside, path)


def _write(file: Path, data: bytes) -> None:
    with file.open("xb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())


_LEFT = re.compile(r"\.(.+[.-])?[0-9a-f]{32}([.-](tmp|new|old))?")


def sweep(folder: Path, seconds: float, names: re.Pattern[str] = _LEFT) -> None:
    """Deletes what killed writers left in a folder, and what was not written to for so many seconds: hidden files and
    folders with a random number in their names, as `hidden_name` and `gan_core.checkpoint` give them."""
    with suppress(OSError), os.scandir(folder) as entries:
        left = [Path(entry.path) for entry in entries if names.fullmatch(entry.name)]
        for path in left:
            if time.time() - _last_written(path) < seconds:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _last_written(path: Path) -> float:
    inside = path.iterdir() if path.is_dir() and not path.is_symlink() else ()
    return max(one.lstat().st_mtime for one in (path, *inside))
