"""The journal of a search in S3."""

from __future__ import annotations

from pathlib import Path

from infra.threads import each
from pipelines.runs._mirror import THREADS, Mirror
from pipelines.runs._ownership import Turn, patiently

SEGMENT_BYTES = 65536
"""Of a journal; each line that is added is put with those of its segment before it."""


class Segments:
    """A journal in a store, in segments that are put whole: what is added costs as much as a segment at most.

    Each driver begins segments of its own, and one that was taken over writes no more: what a store cannot lock, the
    later one has.
    """

    def __init__(self, mirror: Mirror, turn: Turn) -> None:
        self._mirror, self._turn = mirror, turn
        self._segment, self._lines = 0, b""

    def take(self) -> bytes:
        """All lines that were added until now; whoever added them adds no more."""
        self._turn.take()
        names = sorted(name for name in self._mirror.sizes("journal/"))
        self._segment = max((int(Path(name).stem) for name in names), default=0) + 1
        found: dict[str, bytes] = {}

        def read(name: str) -> None:
            found[name] = self._mirror.read(name) or b""

        each(read, names, THREADS)
        return b"".join(found[name] for name in names)

    def add(self, line: bytes) -> None:
        """It is in the store when this returns. Raises TakenOverError."""
        lines = self._lines + line

        def write() -> None:
            self._turn.check()
            self._mirror.write(f"journal/{self._segment:06d}.jsonl", lines)

        patiently(write)
        full = len(lines) >= SEGMENT_BYTES
        self._segment, self._lines = self._segment + full, b"" if full else lines
