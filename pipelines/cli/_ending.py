"""How a command ends that raised an error: its exit code, and one line."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import typer

from gan_core.caches import cache_folder
from gan_core.settings import SettingsError
from infra.passwords import masked
from pipelines import interrupts
from pipelines.cli._streams import reader_is_gone
from pipelines.cli._usage import usage_error
from pipelines.launch import FAILED, INPUT, INTERRUPTED, ends_as_interrupted

PIPE_CLOSED = 141
"""What a shell shows for a program that SIGPIPE ends."""


def _told(error: OSError) -> str:
    """The error, and what to do if it is of a file in the cache."""
    line = " ".join(str(error).split())
    with suppress(SettingsError):
        if isinstance(error.filename, str) and Path(error.filename).is_relative_to(cache_folder().absolute()):
            return f"{line}; nearest: GANFLEET_CACHE=FOLDER, one of yours"
    return line


def ended_by(error: BaseException) -> int:
    """The exit code of a command that ended with this error. Prints the error's line. Raises what it does not know."""
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):  # help is written by Rich
        return PIPE_CLOSED
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    # An import or a library may have made another error of KeyboardInterrupt.
    if isinstance(error, KeyboardInterrupt) or interrupts.stop_requested.is_set():
        typer.echo("interrupted", err=True)
        return INTERRUPTED
    if isinstance(error, BrokenPipeError) and reader_is_gone():
        return PIPE_CLOSED
    if isinstance(error, SettingsError | typer.TyperException):
        mistake = error if isinstance(error, SettingsError) else usage_error(error)
        typer.echo(masked(f"error: {mistake}"), err=True)
        return INTERRUPTED if ends_as_interrupted(mistake) else INPUT
    if isinstance(error, OSError | ValueError):
        line = _told(error) if isinstance(error, OSError) else " ".join(str(error).split())
        typer.echo(masked(f"error: {line}"), err=True)
        return FAILED
    raise error
