"""The commands `evaluate`, `sensitivity` and `sample`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from gan_core.experiment import Data
from gan_core.settings import SettingsError
from infra.files import sweep, write_atomic
from pipelines import interrupts
from pipelines.cli.commands._outputs import check_file, exported, json_text
from pipelines.cli.commands._targets import sample_output
from pipelines.evaluate.targets import Measurement, check_drawing, packs_of
from pipelines.launch import find_data
from pipelines.library import measured
from pipelines.runs import RunPaths, find_checkpoint
from pipelines.settings import (
    CommonSettings,
    EvaluateSettings,
    as_settings_error,
    check_files,
    expand_shorthands,
    open_store,
    restricted_settings,
)

DEFAULT_FILES = 64
"""How many samples become files, unless the user says."""

LEFT_SECONDS = 1.0
"""For which nobody wrote to a file that a killed command left."""

PICTURES: dict[str, Any] = {
    "": "samples",
    "--real": "real",
    "--interpolate": "interpolations",
    "--reconstruct": "reconstructions",
}
"""What the options of `sample` draw (`pipelines.evaluate.sample.Kind`)."""

Target = Annotated[str, typer.Argument(metavar="RUN|CHECKPOINT", show_default=False)]
Assignments = Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]", show_default=False)]

FRESH = 0.2
"""The share of images that `sensitivity` holds out, unless the user says."""


class _SensitivitySettings(EvaluateSettings):
    """The settings that `sensitivity` takes."""

    data: Data = Data()


def register(app: typer.Typer) -> None:
    """Adds these commands to the others."""
    for command in (evaluate, sensitivity, sample):
        app.command()(command)


def evaluate(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="RUN|CHECKPOINT|FAKE_FOLDER [REAL_FOLDER|STATS.npz] [key=value ...]")
    ] = None,
    json_file: Annotated[str | None, typer.Option("--json", help="Write what is printed to FILE.")] = None,
    bootstrap: Annotated[bool, typer.Option("--bootstrap", help="A 95% confidence interval of FID.")] = False,
    save_stats: Annotated[
        str | None, typer.Option(help="Write the real images' mean and covariance to FILE.npz, as pytorch-fid does.")
    ] = None,
    by_class: Annotated[bool, typer.Option("--by-class", help="FID of each class, for conditional families.")] = False,
    curve: Annotated[
        str | None, typer.Option(metavar="FILE.png", help="Draw precision against recall; its table is FILE.csv.")
    ] = None,
) -> None:
    """Measure a run's newest checkpoint, a search's best one, a checkpoint folder, or a folder of images."""
    measurement = Measurement.of(words, save_stats)
    for option, file in (("--json", json_file), ("--save-stats", save_stats), ("--curve", curve)):
        if file is not None and not file.startswith("s3://"):
            check_file(option, Path(file))
    if save_stats is not None and not save_stats.endswith(".npz"):
        raise SettingsError(f"--save-stats {save_stats} is no npz file", nearest=f"--save-stats {save_stats}.npz")
    table = None if curve is None else _table_beside("--curve", curve)
    if by_class and measurement.saved is None:
        raise SettingsError("--by-class is of a checkpoint's classes, folders have none", nearest="no --by-class")
    if curve is not None and measurement.saved is None and len(measurement.targets) == 1:
        raise SettingsError("--curve compares two sets of images, here is one", nearest="no --curve")
    numbers = [one for one in (measurement.settings.metrics.statistics, *measurement.targets[1:]) if one is not None]
    if curve is not None and (found := next((one for one in numbers if str(one).endswith(".npz")), None)) is not None:
        raise SettingsError(f"--curve compares single images, {found} has none", nearest="no --curve")

    with (
        exported("--json", json_file, measurement.settings.storage) if json_file else nullcontext() as found_file,
        exported("--save-stats", save_stats, measurement.settings.storage)
        if save_stats
        else nullcontext() as stats_file,
        exported("--curve", curve, measurement.settings.storage) if curve else nullcontext() as picture,
        exported("--curve", table, measurement.settings.storage) if table else nullcontext() as rows,
    ):
        drawn = None if picture is None or rows is None else (picture, rows)
        result = measured(measurement, Console(stderr=True), bootstrap, stats_file, by_class=by_class, curve=drawn)
        if found_file is not None:
            write_atomic(found_file, json_text(result).encode())
    _print(result)


def sensitivity(
    assignments: Assignments = None,
    out: Annotated[
        str, typer.Option(metavar="FILE.png", help="The picture: FID against each disturbance's level.")
    ] = "sensitivity.png",
    json_file: Annotated[str | None, typer.Option("--json", help="Write what is printed to FILE.")] = None,
) -> None:
    """Show how FID reacts to blur, noise, dropped classes and copies: ganfleet sensitivity data.name=digits."""
    settings = restricted_settings(
        _SensitivitySettings, expand_shorthands(assignments or []), "data", "metrics", "storage"
    )
    for name, value in settings.metrics.chosen().items():
        if name in ("samples", "statistics", "measures", "async"):
            raise SettingsError(f"metrics.{name}={value} has no meaning for real images", nearest="leave it out")
    check_files(settings.metrics)
    _table_beside("--out", out)
    for option, file in (("--out", out), ("--json", json_file)):
        if file is not None and not file.startswith("s3://"):
            check_file(option, Path(file))
    source = settings.data
    if "held_out" not in source.model_fields_set:
        source = source.override(f"held_out={FRESH}")
    find_data(source, settings.storage)
    with interrupts.deferred():
        from pipelines.evaluate.detail.sensitivity import sensitivity_report

    with (
        exported("--out", out, settings.storage) as picture,
        exported("--json", json_file, settings.storage) if json_file else nullcontext() as found_file,
    ):
        result = sensitivity_report(source, settings.metrics, settings.storage, Console(stderr=True), picture)
        if found_file is not None:
            write_atomic(found_file, json_text(result).encode())
    _print(result)
    typer.echo(out)


def _table_beside(option: str, picture: str) -> str:
    """The name of the table beside a picture. Raises SettingsError if the picture's name is that of no PNG file."""
    stem, dot, suffix = picture.rpartition(".")
    if not stem or suffix.lower() != "png":
        raise SettingsError(
            f"{option} {picture} is no PNG file", nearest=f"{option} {stem if dot and stem else picture}.png"
        )
    return f"{stem}.csv"


def _written(value: object) -> str:
    """A number with four decimals, or with four digits if it is so small that decimals would lose them."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {'yes' if one else 'no'}" for name, one in value.items())
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if abs(value) >= 0.1 or value == 0 else f"{value:.4g}"


def _print(result: dict[str, Any]) -> None:
    warnings = result["warnings"]
    tables = {name: value for name, value in result.items() if isinstance(value, list) and name != "warnings"}
    shown = {name: value for name, value in result.items() if name != "warnings" and name not in tables}
    width = max(map(len, shown))
    for name, value in shown.items():
        typer.echo(f"{name:<{width}}  {_written(value)}")
    for rows in tables.values():
        _print_table(rows)
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)


def _print_table(rows: list[dict[str, Any]]) -> None:
    """A line for each row, below the names of its columns."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([_written(row[name]) if row.get(name) is not None else "-" for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    typer.echo("")
    for line in lines:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def sample(
    target: Target,
    assignments: Assignments = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.png|FOLDER/|FILE.npz",
            help="A picture (GIF with --animate); a folder, for a file each; or one npz file.",
        ),
    ] = None,
    count: Annotated[int | None, typer.Option(help="How many samples, pairs, or rows.")] = None,
    form: Annotated[str | None, typer.Option("--format", metavar="png|npz", help="Of the files in a folder.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the samples; without it, the run's.")] = None,
    truncation: Annotated[
        float | None,
        typer.Option(
            metavar="LIMIT",
            help="Draw latent values from a normal distribution cut at -LIMIT and LIMIT; of stylegan2: psi, 0 to 1.",
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="CLASS", help="The class by its name, for conditional families.")
    ] = None,
    real: Annotated[bool, typer.Option("--real", help="Real images next to the samples.")] = False,
    interpolate: Annotated[bool, typer.Option("--interpolate", help="Rows from one latent point to another.")] = False,
    reconstruct: Annotated[bool, typer.Option("--reconstruct", help="Real images over their reconstructions.")] = False,
    animated: Annotated[bool, typer.Option("--animate", help="The run's sample grids, first to last.")] = False,
) -> None:
    """Draw samples of a run's newest checkpoint, a search's best one, or a checkpoint folder."""
    storage = restricted_settings(CommonSettings, assignments, "storage").storage
    kinds = {"--real": real, "--interpolate": interpolate, "--reconstruct": reconstruct, "--animate": animated}
    options = [name for name, given in kinds.items() if given]
    output = sample_output(out, form, count, kinds, label)
    check_drawing(seed, truncation, options)
    folder = find_checkpoint(target, storage)
    store = open_store(output.out.rstrip("/"), storage) if output.kind == "folder" else None

    with interrupts.deferred():
        from pipelines.evaluate.drawing import Drawing
        from pipelines.evaluate.sample import animate, sample
        from pipelines.evaluate.sample_files import write_npz, write_samples

    drawing, console = Drawing(seed, truncation, label), Console(stderr=True)
    shown = ""
    if store is not None:
        with as_settings_error(f"--out={output.out}"):
            shown = write_samples(folder, store, output.out, count or DEFAULT_FILES, drawing, output.form, console)
        sweep(Path(output.out), LEFT_SECONDS)
    else:
        with exported("--out", output.out, storage) as file:
            if animated:
                animate(RunPaths(folder.parent.parent).pictures(), file)
            elif output.kind == "npz":
                shown = write_npz(folder, file, count or DEFAULT_FILES, drawing, console)
            else:
                kind = PICTURES[options[0] if options else ""]
                shown = sample(folder, file, count, drawing, kind, packs_of(folder, storage))
    typer.echo(output.out)
    if shown:
        typer.echo(shown, err=True)
