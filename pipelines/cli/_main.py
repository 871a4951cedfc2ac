"""The commands. All that a user types is checked before torch or Ray are imported.

Exit codes: 0 done; 2 the user's input is wrong; 75 interrupted, can be resumed; 141 nobody reads the output any more;
1 anything else.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from gan_core.files import cache_folder
from gan_core.settings import SettingsError
from infra.files import write_atomic
from infra.passwords import remember
from pipelines import interrupts
from pipelines.cli import _data as data_cli
from pipelines.cli import _jobs as commands
from pipelines.cli._ending import ended_by
from pipelines.cli._outputs import exported
from pipelines.cli._process import hide_passwords, name_user
from pipelines.cli._streams import end_output, prepare_streams
from pipelines.cli._targets import as_trained, checked_targets, drawing_file, packs_of
from pipelines.cli._usage import SETTINGS, VerbGroup, print_version
from pipelines.launch import DONE, CommandLine, Request, begin, check_cluster, run, search_request, train_request
from pipelines.runs import RunPaths, find_checkpoint
from pipelines.settings import (
    CommonSettings,
    EvaluateSettings,
    SearchExperiment,
    check_files,
    check_tracking,
    preset_names,
    restricted_settings,
    split_words,
)
from pipelines.sync import typed_again

app = typer.Typer(
    name="ganfleet",
    cls=VerbGroup,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_cli.app, name="data")

Words = Annotated[list[str] | None, typer.Argument(metavar="[FAMILY...] [key=value ...]", show_default=False)]
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="PRESET|FILE",
        help=f"Settings by name ({', '.join(preset_names())}) or from a YAML file; the command line wins.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved experiment and stop.")]
Resume = Annotated[str | None, typer.Option(metavar="NAME", help="Go on with this run or search.")]
Target = Annotated[str, typer.Argument(metavar="RUN|CHECKPOINT", show_default=False)]
Assignments = Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]", show_default=False)]


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    """Train GANs data-parallel on Ray and search their hyper-parameters by FID."""


@app.command(epilog=SETTINGS.format(verb="train", also=""))
def train(
    words: Words = None,
    config: Config = None,
    dry_run: DryRun = False,
    resume: Resume = None,
    from_search: Annotated[str | None, typer.Option(metavar="NAME", help="Train a search's best settings.")] = None,
    init_from: Annotated[
        str | None, typer.Option(metavar="RUN|CHECKPOINT", help="Begin a new run with these weights.")
    ] = None,
) -> None:
    """Train one family: ganfleet train wgan_gp family.lr=3e-4 budget.rounds=2000."""
    request = train_request(CommandLine.of(words, config, resume, from_search, init_from))

    def play(request: Request[Any], console: Console) -> None:
        with interrupts.deferred():
            from pipelines.train.command import train

        train(request.experiment, request.folder, console)

    _start("train", request, play, dry_run)


@app.command(epilog=SETTINGS.format(verb="search", also=", search and space"))
def search(words: Words = None, config: Config = None, dry_run: DryRun = False, resume: Resume = None) -> None:
    """Search one family or several: ganfleet search wgan wgan_gp search.trials=32."""
    request = search_request(CommandLine.of(words, config, resume))

    def play(request: Request[Any], console: Console) -> None:
        with interrupts.deferred():
            from pipelines.search.command import search

        search(request.experiment, request.folder, console)

    _start("search", request, play, dry_run)


def _start(verb: str, request: Request[Any], play: Callable[[Request[Any], Console], None], dry_run: bool) -> None:
    """Plays what is requested; prints its settings instead if it is a dry run."""
    experiment = request.experiment
    if not dry_run:
        check_cluster()
        with interrupts.noted(), begin(typed_again(request)) as (claimed, undo):
            run(verb, experiment.storage, claimed.folder, undo, partial(play, claimed))
        return
    typer.echo(experiment.to_yaml(), nl=False)
    if isinstance(experiment, SearchExperiment):
        typer.echo("# searched:")
        for name, space in experiment.spaces().items():
            for field, domain in space.items():
                typer.echo(f"#   {name}.{field}: {domain}")


@app.command()
def evaluate(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="RUN|CHECKPOINT|FAKE_FOLDER [REAL_FOLDER|STATS.npz] [key=value ...]")
    ] = None,
    json_file: Annotated[str | None, typer.Option("--json", help="Write what is printed to FILE.")] = None,
    bootstrap: Annotated[bool, typer.Option("--bootstrap", help="A 95% confidence interval of FID.")] = False,
    save_stats: Annotated[
        str | None, typer.Option(help="Write the real images' mean and covariance to FILE.npz, as pytorch-fid does.")
    ] = None,
) -> None:
    """Measure a run's newest checkpoint, a search's best one, a checkpoint folder, or a folder of images."""
    targets, assignments = split_words(words)
    settings = restricted_settings(EvaluateSettings, assignments, "storage", "metrics")
    check_files(settings.metrics)
    saved = checked_targets(targets, settings, save_stats)
    for option, file in (("--json", json_file), ("--save-stats", save_stats)):
        if file is not None and not file.startswith("s3://"):
            _check_file(option, Path(file))
    if save_stats is not None and not save_stats.endswith(".npz"):
        raise SettingsError(f"--save-stats {save_stats} is no npz file", nearest=f"--save-stats {save_stats}.npz")

    with (
        exported("--json", json_file, settings.storage) if json_file else nullcontext() as found_file,
        exported("--save-stats", save_stats, settings.storage) if save_stats else nullcontext() as stats_file,
    ):
        with interrupts.deferred():
            from pipelines.evaluate.command import (
                EvaluateOptions,
                evaluate_checkpoint,
                evaluate_images,
                write_folder_statistics,
            )

        packs = settings.storage if saved is None else packs_of(saved, settings.storage)
        options = EvaluateOptions(settings.storage.folder, Console(stderr=True), bootstrap, stats_file, packs)
        try:
            if saved is not None:
                result = evaluate_checkpoint(saved, as_trained(saved, assignments), options)
            elif len(targets) == 2:
                result = evaluate_images(Path(targets[0]), Path(targets[1]), settings.metrics, options)
            else:
                result = write_folder_statistics(Path(targets[0]), settings.metrics, options)
        except ValueError as error:  # the images, weights or statistics it was given are wrong
            raise SettingsError(str(error)) from None
        if found_file is not None:
            write_atomic(found_file, json.dumps(result, indent=1).encode())
    _print(result)


def _check_file(option: str, file: Path) -> None:
    if not file.absolute().parent.is_dir():
        raise SettingsError(f"{option} {file}: there is no such folder", nearest=f"{option} {file.name}")
    if file.is_dir():
        raise SettingsError(f"{option} {file} is a folder", nearest=f"{option} {file / 'found'}")


def _written(value: object) -> str:
    """A number with four decimals, or with four digits if it is so small that decimals would lose them."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if abs(value) >= 0.1 or value == 0 else f"{value:.4g}"


def _print(result: dict[str, Any]) -> None:
    warnings = result["warnings"]
    shown = {name: value for name, value in result.items() if name != "warnings"}
    width = max(map(len, shown))
    for name, value in shown.items():
        typer.echo(f"{name:<{width}}  {_written(value)}")
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)


@app.command()
def sample(
    target: Target,
    assignments: Assignments = None,
    out: Annotated[str | None, typer.Option(help="The PNG file to write (GIF with --animate).")] = None,
    count: Annotated[int | None, typer.Option(min=1, max=4096, help="How many samples, pairs, or rows.")] = None,
    label: Annotated[
        str | None, typer.Option(metavar="CLASS", help="The class by its name, for conditional families.")
    ] = None,
    interpolate: Annotated[bool, typer.Option("--interpolate", help="Rows from one latent point to another.")] = False,
    reconstruct: Annotated[bool, typer.Option("--reconstruct", help="Real images over their reconstructions.")] = False,
    animated: Annotated[bool, typer.Option("--animate", help="The run's sample grids, first to last.")] = False,
) -> None:
    """Draw samples of a run's newest checkpoint, a search's best one, or a checkpoint folder."""
    storage = restricted_settings(CommonSettings, assignments, "storage").storage
    out = drawing_file(out, {"--interpolate": interpolate, "--reconstruct": reconstruct, "--animate": animated}, label)
    folder = find_checkpoint(target, storage)

    with interrupts.deferred():
        from pipelines.evaluate.sample import animate, sample

    shown = ""
    with exported("--out", out, storage) as file:
        if animated:
            animate(RunPaths(folder.parent.parent).pictures(), file)
        else:
            shown = sample(
                folder,
                file,
                count,
                label,
                "interpolations" if interpolate else "reconstructions" if reconstruct else "samples",
                packs_of(folder, storage),
            )
    typer.echo(out)
    if shown:
        typer.echo(shown, err=True)


@app.command()
def ui(
    assignments: Assignments = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Open MLflow on the store where runs are tracked."""
    settings = restricted_settings(CommonSettings, assignments, "storage", "tracking")
    if settings.tracking.server:
        typer.echo(f"MLflow's pages are at {settings.curves}")
        return
    database = settings.storage.folder / "mlflow.db"
    check_tracking(settings)
    if settings.tracking.uri is None and not database.is_file():
        raise SettingsError(f"storage.path={settings.storage.path} has no runs yet", nearest="ganfleet train wgan_gp")
    cache_folder()  # MLflow does not start where there is no home folder
    typer.echo(f"MLflow on http://127.0.0.1:{port} (Ctrl-C ends it)")
    sys.stdout.flush()
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [*command, "--backend-store-uri", settings.tracking_uri])


commands.register(app)


def run_command() -> int:
    """Runs the command that the arguments name. Returns its exit code."""
    prepare_streams()
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    name_user()
    for word in sys.argv:
        remember(word)
    try:
        with interrupts.raised():
            hide_passwords()
            with typer.main.get_command(app).make_context("ganfleet", sys.argv[1:]) as context:
                context.command.invoke(context)  # Typer's own call would end Ctrl-C and a closed pipe in its own ways
        code = DONE
    except BaseException as error:
        code = ended_by(error)
    end_output()
    return code
