"""The command `export`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from infra.stores.protocol import NotThereError
from pipelines import interrupts
from pipelines.cli.commands._outputs import exported
from pipelines.evaluate.export_output import SUFFIXES, export_output
from pipelines.runs import find_checkpoint, find_run, refresh_records
from pipelines.settings import CommonSettings, Storage, as_settings_error, open_store, restricted_settings


def register(app: typer.Typer) -> None:
    """Adds the command to the others."""
    app.command()(export)


def export(
    target: Annotated[str, typer.Argument(metavar="RUN|CHECKPOINT", show_default=False)],
    to: Annotated[str, typer.Option("--to", metavar="|".join(SUFFIXES), help="What the file is.")],
    assignments: Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]", show_default=False)] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE|FOLDER/", help="The file, with its model card next to it; or a folder for both."),
    ] = None,
) -> None:
    """Write the generator of a run's newest checkpoint, or a search's best one, for other programs."""
    storage = restricted_settings(CommonSettings, assignments, "storage").storage
    output = export_output(to, out)
    checkpoint = find_checkpoint(target, storage)
    if not (Path(target) / "checkpoint.json").is_file():
        refresh_records(find_run(target, storage))
    with exported("--out", output.card, storage) as card, exported("--out", output.file, storage) as file:
        if output.card.startswith("s3://"):
            _bring_card(output.card, card, storage)
        with interrupts.deferred():
            from pipelines.evaluate.export import export

        done = export(checkpoint, to, file, card)
    typer.echo(output.file)
    typer.echo(output.card)
    typer.echo(done.checked, err=True)


def _bring_card(target: str, card: Path, storage: Storage) -> None:
    """Brings an earlier card: the licence that the user wrote there stays."""
    prefix, _, name = target.rpartition("/")
    with as_settings_error(f"--out={target}"), suppress(NotThereError):
        open_store(prefix, storage).get(name, card)
