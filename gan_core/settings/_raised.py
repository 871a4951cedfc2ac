"""An error that the user's code raised, in one line."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path


def raised(error: BaseException) -> str:
    """Its type, what it says, and the user's line that it comes from: `ValueError: no such file (own.py:12)`."""
    said = " ".join(str(error).split())[:300]
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(_not_the_users())]
    frame = (theirs or frames)[-1]
    return f"{type(error).__name__}: {said} ({place(frame.filename, frame.lineno)})"


def place(file: str, line: int | None) -> str:
    """A line of a file, as editors open it."""
    return f"{Path(file).name}:{line}"


def _not_the_users() -> tuple[str, ...]:
    """How the files of torch, of Python's imports and of ours begin."""
    packages = [sys.modules[name].__file__ for name in ("gan_core", "torch") if name in sys.modules]
    return ("<frozen", *(str(Path(file).parent) for file in packages if file is not None))
