"""Mistakes in verbs and options, in one line like those in settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from gan_core.settings import SettingsError, nearest, unknown


class VerbGroup(TyperGroup):
    """A group of commands that names the nearest verb for an unknown one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Raises SettingsError for an unknown verb."""
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise SettingsError(unknown("verb", args[0], self.list_commands(ctx)))
        return super().resolve_command(ctx, args)


def usage_error(error: typer.TyperException) -> SettingsError:
    """What Typer found wrong with a command line."""
    option, ctx = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if ctx is not None and hasattr(error, "possibilities"):  # click's NoSuchOption, which Typer does not export
        known = _options(ctx.find_root().command, ctx)
        return SettingsError(f"unknown option '{option}'", nearest=nearest(str(option), known))
    message = " ".join(error.format_message().split()).removesuffix(".")
    return SettingsError(message, nearest="ganfleet --help")


def _options(command: Any, ctx: Any) -> Iterator[str]:
    """The options of a command and of all commands below it."""
    for parameter in command.get_params(ctx):
        yield from (name for name in parameter.opts if name.startswith("--"))
    for below in getattr(command, "commands", {}).values():
        yield from _options(below, ctx)
