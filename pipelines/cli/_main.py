"""The commands. All that a user types is checked before torch or Ray are imported.

Exit codes: 0 done; 2 the user's input is wrong; 75 interrupted, can be resumed; 141 nobody reads the output any more;
1 anything else.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.passwords import remember
from pipelines import interrupts
from pipelines.cli._ending import ended_by
from pipelines.cli._process import hide_passwords, name_user
from pipelines.cli._streams import end_output, prepare_streams
from pipelines.cli._usage import SETTINGS, VerbGroup, print_version
from pipelines.cli.commands import data, export, jobs, measure, new, runs, ui
from pipelines.launch import DONE, CommandLine, Request, finish, search_request, train_request, tried
from pipelines.library import started
from pipelines.settings import SearchExperiment, preset_names

app = typer.Typer(
    name="ganfleet",
    cls=VerbGroup,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")

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
    _start("train", train_request(CommandLine.of(words, config, resume, from_search, init_from)), dry_run)


@app.command(epilog=SETTINGS.format(verb="search", also=", search and space"))
def search(words: Words = None, config: Config = None, dry_run: DryRun = False, resume: Resume = None) -> None:
    """Search one family or several: ganfleet search wgan wgan_gp search.trials=32."""
    _start("search", search_request(CommandLine.of(words, config, resume)), dry_run)


def _start(verb: str, request: Request[Any], dry_run: bool) -> None:
    """Plays what is requested; prints its settings instead if it is a dry run."""
    if not dry_run:
        with started(verb, request) as (_, play):
            ending = play(None)
        finish(ending)
        return
    experiment, notes = (request.experiment, ()) if request.resumed else tried(request.experiment)
    typer.echo(experiment.to_yaml(), nl=False)
    for note in notes:
        typer.echo(f"# {note}")
    if isinstance(experiment, SearchExperiment):
        typer.echo("# searched:")
        for name, space in experiment.spaces().items():
            for field, domain in space.items():
                typer.echo(f"#   {name}.{field}: {domain}")


for command in (measure, export, runs, ui, jobs, new):
    command.register(app)


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
