"""Notes on multipart uploads under way, so that those of a process that died are completed or aborted by the next."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Upload:
    """An upload that the store has begun."""

    id: str
    sha256: str
    """Of the whole file."""
    piece: int
    """Bytes."""


class Notes:
    """Of the uploads to one key: a file each, locked while its process lives."""

    def __init__(self, folder: Path | None, target: str) -> None:
        self._folder = folder
        self._mark = hashlib.sha256(target.encode()).hexdigest()[:24]

    @contextmanager
    def kept(self, upload: Upload) -> Iterator[Callable[[], None]]:
        """Keeps a note, also if this process dies, until what is yielded is called."""
        if self._folder is None:
            yield lambda: None
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        note = self._folder / f"{self._mark}-{uuid.uuid4().hex}.json"
        with note.open("x") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            json.dump(asdict(upload), file)
            file.flush()
            os.fsync(file.fileno())
            yield lambda: note.unlink(missing_ok=True)

    def orphan(self, sha256: str, piece: int, abort: Callable[[Upload], bool]) -> Upload | None:
        """An upload of the same bytes whose process is no more; the caller takes it over. All others are aborted."""
        found = None
        for note in sorted(self._folder.glob(f"{self._mark}-*.json")) if self._folder else []:
            with suppress(OSError, ValueError, TypeError), note.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                upload = Upload(**json.load(file))
                if found is None and (upload.sha256, upload.piece) == (sha256, piece):
                    found = upload
                elif not abort(upload):
                    continue
                note.unlink()
        return found
