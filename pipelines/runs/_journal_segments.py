"""The journal of a search in S3."""

from __future__ import annotations

from pathlib import Path

from infra.threads import each
from pipelines.runs._mirror import THREADS, Mirror
from pipelines.runs._ownership import Ownership, retry_while_unreachable

SEGMENT_BYTES = 65536
"""The size at which a new segment begins. To add a line, its whole segment is uploaded again."""


class JournalSegments:
    """A journal in a store, cut into segments, so that adding a line uploads one segment at most.

    Each driver begins new segments, and a driver that was taken over writes no more: the last driver to claim the
    search owns its journal.
    """

    def __init__(self, mirror: Mirror, ownership: Ownership) -> None:
        self._mirror, self._ownership = mirror, ownership
        self._segment, self._lines = 0, b""

    def claim(self) -> bytes:
        """Makes this driver the owner of the journal, and returns all lines that were added until now."""
        self._ownership.claim()
        content, names = self._read()
        self._segment = max((int(Path(name).stem) for name in names), default=0) + 1
        return content

    def read(self) -> bytes:
        """All lines that were added until now, for a reader."""
        return self._read()[0]

    def _read(self) -> tuple[bytes, list[str]]:
        """All lines, and the names of the segments."""
        names = sorted(name for name in self._mirror.sizes("journal/"))
        found: dict[str, bytes] = {}

        def read(name: str) -> None:
            found[name] = self._mirror.read(name) or b""

        each(read, names, THREADS)
        return b"".join(found[name] for name in names), names

    def add(self, line: bytes) -> None:
        """Adds a line; it is in the store when this returns. Raises TakenOverError."""
        lines = self._lines + line

        def write() -> None:
            self._ownership.check()
            self._mirror.write(f"journal/{self._segment:06d}.jsonl", lines)

        retry_while_unreachable(write)
        full = len(lines) >= SEGMENT_BYTES
        self._segment, self._lines = self._segment + full, b"" if full else lines
