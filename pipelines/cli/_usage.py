"""Mistakes in verbs and options, in one line like those in settings."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

import typer
from typer.core import TyperGroup

from gan_core.family import family_class, family_names
from gan_core.settings import SettingsError, paths, similar, unknown
from pipelines.settings import SearchExperiment, TrainExperiment

SETTINGS = f"Families: {', '.join(family_names())}." + (
    " Settings are of the sections family, data, budget, metrics, compute,"
    " reliability, tracking and storage{also}: ganfleet {verb} wgan_gp --dry-run prints each with its value."
)
"""What is below the help of `train` and `search`."""


def print_version(wanted: bool) -> None:
    """Prints the version and ends the command, if that is wanted."""
    if wanted:
        typer.echo(f"ganfleet {version('ganfleet')}")
        raise typer.Exit


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
    help_of = "ganfleet --help" if ctx is None else f"{ctx.command_path} --help"
    if ctx is not None and hasattr(error, "possibilities"):  # click's NoSuchOption, which Typer does not export
        return SettingsError(f"unknown option '{option}'", nearest=_meant(str(option), ctx) or help_of)
    message = " ".join(error.format_message().split()).removesuffix(".")
    return SettingsError(message, nearest=help_of)


def _meant(option: str, ctx: Any) -> str | None:
    """The option or setting that an unknown option was meant to be; None if nothing is similar."""
    own = _options(ctx.command, ctx)
    known = _settings_paths() if ctx.command.name in ("train", "search", "submit") else []
    key = option.lstrip("-").replace("-", "_")
    setting = similar(key, known)
    if setting is not None and key in (setting, setting.rpartition(".")[2]):
        return f"{setting}={_value_of(option)}"
    letters = [name for name in own if not option.startswith("--") and name.startswith(f"-{option}")]
    found = letters[0] if len(letters) == 1 else similar(option.lstrip("-"), [name.lstrip("-") for name in own])
    if found is not None:
        return f"--{found.lstrip('-')}"
    root = ctx.find_root().command
    owners = [name for name, command in root.commands.items() if option in _options(command, ctx)]
    if owners:
        return f"ganfleet {owners[0]} {option}"
    return None if setting is None else f"{setting}={_value_of(option)}"


def _options(command: Any, ctx: Any) -> list[str]:
    """The long options of a command."""
    return [name for one in command.get_params(ctx) for name in one.opts if name.startswith("--")]


def _settings_paths() -> list[str]:
    """Every setting of a run or a search, those of all families among them."""
    fields = {f"family.{field}" for name in family_names() for field in family_class(name).model_fields}
    return [*dict.fromkeys([*paths(TrainExperiment), *paths(SearchExperiment)]), *sorted(fields)]


def _value_of(option: str) -> str:
    """The value that was typed with an option: `--family.lr=3`, or `--lr 3`."""
    words = sys.argv
    for index, word in enumerate(words):
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
        if word == option and index + 1 < len(words) and not words[index + 1].startswith("-"):
            return words[index + 1]
    return "..."
