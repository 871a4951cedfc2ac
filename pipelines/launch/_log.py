"""The log of a run, `run.log`: our own lines, in the order of time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from infra.passwords import masked

_OURS = ("gan_core", "infra", "pipelines", "tune_spaces")


class _RunLog(logging.FileHandler):
    """The log of a run: what is said on the screen, warnings and tracebacks of our own, each with its time."""

    def format(self, record: logging.LogRecord) -> str:
        """Only the first line has the time. Passwords are masked."""
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        stamp = time.strftime("%Y-%m-%d %H:%M:%S ", time.localtime(record.created))
        return masked(stamp + text.replace("\n", "\n" + " " * len(stamp)))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """The disk of the log may be full. The run finds out by its own files."""

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def logged(log: Path) -> Iterator[None]:
    """Writes to `log` what is said on the screen, and what our own code warns of."""
    handler, loggers = _RunLog(log, encoding="utf-8", errors="replace"), [logging.getLogger(name) for name in _OURS]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
