"""A confirmed winner in MLflow: numbers of the search's run, and a version in the model registry."""

from __future__ import annotations

from rich.console import Console

from infra.mlflow.registry import NoRegistryError, register
from infra.mlflow.store import AWAY
from infra.mlflow.tracker import MlflowTracker, run_of
from pipelines.console import say
from pipelines.runs import RunFolder
from pipelines.search._best import SearchResult
from pipelines.search.confirmation.results import ConfirmedTrial
from pipelines.search.trials.context import SearchContext


def track_winner(context: SearchContext, found: SearchResult) -> None:
    """Logs the winner's mean and spread to the search's run, at the number of runs confirmed: told again they are
    dropped, told of more runs they are a further point."""
    best = found.best
    if best is None or best.confirmed is None:
        return
    runs = [run.id for one in found.confirmed for run in one.runs]
    seen = sum(_images_seen(context.folder.below("confirm").trial(run)) for run in runs)
    values = {"images_seen": seen, "confirmed/fid_mean": best.confirmed.mean, "confirmed/fid_sd": best.confirmed.sd}
    told = {name: float(value) for name, value in values.items() if value is not None}
    MlflowTracker(context.tracking_uri, context.parent).metrics(len(runs), told)


def register_winner(context: SearchContext, found: SearchResult, console: Console) -> None:
    """Makes the winner's typical run the newest version of the model of the search's name, unless it is already."""
    best = found.best
    if best is None or best.confirmed is None:
        return
    identity = {"ganfleet.id": f"{context.folder.id}/confirm/{best.confirmed.typical.id}"}
    try:
        run = run_of(context.tracking_uri, context.tracking_experiment, identity)
    except AWAY as error:
        say(console, f"model     not registered: {' '.join(str(error).split())[:200]}")
        return
    if run is None:
        say(console, f"model     not registered: its run is not in tracking.uri={context.tracking_uri}")
        return
    model = context.folder.path.name
    try:
        made = register(context.tracking_uri, model, run, _tags(context, best.trial, best.confirmed))
    except NoRegistryError as error:
        say(console, f"model     not registered: {error}")
        return
    say(console, f"model     {made.model} version {made.version} in MLflow's registry")


def _tags(context: SearchContext, trial: str, winner: ConfirmedTrial) -> dict[str, str]:
    tags = {
        "ganfleet.search": context.folder.path.name,
        "ganfleet.search.id": context.folder.id,
        "ganfleet.trial": trial,
        "ganfleet.seed": str(winner.typical.seed),
        "ganfleet.seeds": ",".join(str(run.seed) for run in winner.runs),
        "ganfleet.fid.mean": f"{winner.mean:.4f}",
    }
    return tags if winner.sd is None else {**tags, "ganfleet.fid.sd": f"{winner.sd:.4f}"}


def _images_seen(run: RunFolder) -> int:
    """How many real images a run saw; none if it was lost before it logged any."""
    rows = run.rows()
    return int(rows[-1]["images_seen"]) if rows else 0
