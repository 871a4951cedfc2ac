"""How a command ends that raised an error: its exit code, and one line."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import typer

from gan_core.files import cache_folder
from gan_core.settings import SettingsError
from infra.passwords import masked
from pipelines import interrupts
from pipelines.cli._streams import reader_is_gone
from pipelines.cli._usage import usage_error
from pipelines.launch import FAILED, INPUT, INTERRUPTED, ends_as_interrupted

PIPE_CLOSED = 141
"""What a shell shows for a program that SIGPIPE ends."""


def _advice(error: OSError | ValueError) -> str:
    """What to do if the error is of a file in the cache; else empty."""
    file = getattr(error, "filename", None)
    with suppress(SettingsError):
        if isinstance(file, str) and Path(file).is_relative_to(cache_folder().absolute()):
            return "; nearest: GANFLEET_CACHE=FOLDER, one of yours"
    return ""


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
        typer.echo(masked(f"error: {' '.join(str(error).split())}{_advice(error)}"), err=True)
        return FAILED
    raise error
