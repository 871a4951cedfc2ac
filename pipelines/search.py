"""`ganfleet search`: Ray Tune over one family or several, FID the objective."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from ray import tune
from rich.console import Console

from gan_core.settings import SettingsError
from infra.cluster import Cluster, cluster
from infra.mlflow_tracker import close_run, open_run, version_tags
from pipelines.families import say_families, write_families
from pipelines.learned import try_to_draw
from pipelines.outcome import Outcome, best_of, outcome_of
from pipelines.reference import obtain_reference, say_reference
from pipelines.report import say_outcomes, write_outcomes
from pipelines.room import check_room, concurrent_trials, trial_shares
from pipelines.runs import RunFolder
from pipelines.search_screen import SearchView
from pipelines.settings import SearchExperiment
from pipelines.tracking import STATUS, State, close, prepare_tracking
from pipelines.train import InterruptedRunError
from pipelines.trial import SearchContext, Trial
from pipelines.worker import flat
from tune_spaces.engines import IMAGES, TIME, extensible, scheduler, searcher


class FailedSearchError(RuntimeError):
    """Every trial failed."""


class Watch:
    """Follows a search from its driver: the screen, and the end of each trial's run in MLflow."""

    def __init__(self, context: SearchContext, view: SearchView) -> None:
        self.context, self.view = context, view
        self.trials: Sequence[Any] = ()
        self.began = time.monotonic()
        self.done: set[str] = set()
        self.closed: set[str] = set()

    def see(self, trials: Sequence[Any]) -> None:
        """Keeps the trials; those that had ended when a search was restored count as done."""
        if not self.trials:
            self.done |= {trial.trial_id for trial in trials if trial.is_finished()}
            self.view.restore([now for now in map(self.outcome, trials) if now.step or now.ended])
        self.trials = trials
        images = sum(int((trial.last_result or {}).get("images_seen", 0)) for trial in trials)
        self.view.tick(images, time.monotonic() - self.began)

    def outcome(self, trial: Any) -> Outcome:
        """How a trial stands."""
        return outcome_of(trial, longest(self.context.experiment), self.context.folder)

    def show(self, trial: Any, state: str | None = None) -> None:
        """Brings a trial's row up to date; Tune changes a trial's own state only after it has called us."""
        now = self.outcome(trial)
        self.view.update(now if state is None else replace(now, state=state))

    def finish(self, trial: Any, state: State) -> None:
        """Ends a trial's run in MLflow, with its final checkpoint."""
        if state != "interrupted":
            self.done.add(trial.trial_id)
        folder, saved = self.context.folder.trial(trial.trial_id), self.outcome(trial).checkpoint
        experiment = self.context.experiment.trial(trial.config["settings"])
        if not folder.experiment.is_file():
            return
        close(self.context.target(trial.trial_id), experiment, folder, state, saved)
        if state != "interrupted":
            self.closed.add(trial.trial_id)
            folder.discard_after(self.outcome(trial).step)  # a group of workers runs ahead of what it reports
            folder.prune(keep=1)

    def settle(self) -> list[Outcome]:
        """Ends the runs that are still open in MLflow, whoever left them so. Returns how each trial stands.

        After Ctrl-C Tune calls a trial that was running terminated; for us it is interrupted, and will go on.
        """
        outcomes = []
        for trial in self.trials:
            now = self.outcome(trial)
            if trial.trial_id not in self.done:
                now = replace(now, state="interrupted")
            if trial.trial_id not in self.closed and not (now.ended and self.context.target(trial.trial_id).ended()):
                self.finish(trial, now.state)  # type: ignore[arg-type]
            outcomes.append(now)
        return outcomes


class Relay(tune.Callback):
    """What Tune calls. It is pickled and restored with the search; the watch of this process is not."""

    watch: ClassVar[Watch]

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.watch.see(trials)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """A finished search that is restored has no step."""
        self.watch.see(trials)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.watch.show(trial, "running")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.watch.show(trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        now = self.watch.outcome(trial)
        state: State = "completed" if now.step >= now.last_step else "stopped"
        self.watch.show(trial, state)
        self.watch.finish(trial, state)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.watch.show(trial, "failed")
        self.watch.finish(trial, "failed")


def longest(experiment: SearchExperiment) -> int:
    """The generator update at which the longest trial's budget ends (one critic step a round)."""
    return experiment.budget.last_round(experiment.data.batch_size)


def search(experiment: SearchExperiment, folder: RunFolder, console: Console, resume: bool) -> None:
    """Runs the search, or goes on with it, to its last trial; then prints the table and the best settings.

    Raises InterruptedRunError on Ctrl-C; SettingsError if the cluster is too small.
    """
    yardstick = obtain_reference(experiment.metrics, experiment.data, experiment.storage.path, console)
    say_reference(console, yardstick)
    tracking, tags = prepare_tracking(experiment), {**version_tags(), **yardstick.tags}
    parent = open_run(
        experiment.tracking_uri,
        tracking,
        {"ganfleet.id": folder.id},
        folder.path.name,
        None,
        flat(experiment.model_dump(mode="json", include={"seed", "data", "budget", "search", "compute"})),
        {"ganfleet.kind": "search", **tags},
    )
    try:
        with SearchView(console, experiment) as view, cluster() as room:
            check_room(experiment, room)
            where = (experiment.tracking_uri, tracking, parent)
            context = SearchContext(experiment, folder, yardstick.content, *where, tags, trial_shares(experiment, room))
            Relay.watch = watch = Watch(context, view)
            tuner(context, room, resume).fit()
            outcomes = watch.settle()
    except BaseException as error:
        state: State = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        close_run(experiment.tracking_uri, parent, STATUS[state], {"ganfleet.state": state}, {})
        raise
    interrupted = any(not one.ended for one in outcomes) or len(outcomes) < experiment.search.trials
    files = [*write_outcomes(folder, experiment, outcomes), *try_to_draw(console, folder, experiment, outcomes)]
    if experiment.search.compare:
        files += write_families(folder, outcomes, confirmed=[])
    failed = not interrupted and best_of(outcomes) is None
    _close_parent(context, files, outcomes, "interrupted" if interrupted else "failed" if failed else "completed")
    if interrupted:
        raise InterruptedRunError
    say_outcomes(console, folder, outcomes, experiment.storage)
    if experiment.search.compare:
        say_families(console, outcomes, confirmed=[])
    if failed:
        raise FailedSearchError("no trial came to an end with a FID")


def _close_parent(context: SearchContext, files: list[Path], outcomes: list[Outcome], state: State) -> None:
    best = best_of(outcomes)
    tags: dict[str, str] = {"ganfleet.state": state}
    if best is not None:
        tags |= {"ganfleet.best.trial": best.trial, "ganfleet.best.fid": f"{best.fid:.4f}"}
    artifacts = {str(path.relative_to(context.folder.path)): path for path in [context.folder.experiment, *files]}
    close_run(context.tracking_uri, context.parent, STATUS[state], tags, artifacts)


def tuner(context: SearchContext, room: Cluster, resume: bool) -> tune.Tuner:
    """A new tuner, or the one that the search's folder holds, with room for its trials counted."""
    trainable, concurrent = _sized(context, room)
    state = context.folder.path / "tune"
    if resume and _has_state(state):
        return tune.Tuner.restore(str(state), trainable, resume_unfinished=True, restart_errored=False)
    experiment = context.experiment
    algorithm = extensible(
        searcher(
            experiment.search.sampler,
            experiment.spaces(),
            experiment.seed,
            compare=experiment.search.compare,
            points=experiment.points(),
            defaults=experiment.defaults(),
        ),
        experiment.search.trials if experiment.search.scheduler == "pbt" else concurrent,  # all take turns
        _trials_wanted,
    )
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=algorithm,
            scheduler=_scheduler(experiment),
            num_samples=experiment.search.trials,
            reuse_actors=experiment.compute.workers == 1,
            trial_dirname_creator=_trial_id,
        ),
        run_config=tune.RunConfig(
            name=state.name,
            storage_path=str(state.parent),
            callbacks=[Relay()],
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )


def _scheduler(experiment: SearchExperiment) -> Any:
    """Trials of as many images but other numbers of critic steps are compared at the same images."""
    by_images = experiment.budget.rounds is None
    unit, time = (experiment.data.batch_size, IMAGES) if by_images else (1, TIME)
    return scheduler(
        experiment.search.scheduler,
        longest(experiment) * unit,
        experiment.budget.eval_every * unit,
        sampler=experiment.search.sampler,
        spaces=experiment.spaces(),
        seed=experiment.seed,
        time=time,
        history=_rows_of,
    )


def _rows_of(trial_id: str) -> list[dict[str, float]]:
    """What a trial has logged, for the scheduler of a restored search."""
    file = Relay.watch.context.folder.trial(trial_id).path / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def _sized(context: SearchContext, room: Cluster) -> tuple[Any, int]:
    """The trainable with its resources, and how many trials run at once.

    The actor of a trial with several workers holds no CPU of theirs, or both would wait for ever.
    """
    concurrent = concurrent_trials(context.experiment, room)
    if context.experiment.compute.workers > 1:
        resources: dict[str, float] = {"node:__internal_head__": round(0.99 / concurrent, 4)}
    else:
        resources = {"CPU": context.shares.cpus_per_worker, "GPU": context.shares.gpus}
    return tune.with_resources(tune.with_parameters(Trial, context=context), resources), concurrent


def _trials_wanted() -> int:
    """How many trials the search of this process asks for; a restored one may have been pickled with fewer."""
    return Relay.watch.context.experiment.search.trials


def _trial_id(trial: Any) -> str:
    return str(trial.trial_id)


def _has_state(folder: Path) -> bool:
    """Whether Tune has anything to go on with. A killed driver can leave a torn newest state file, with which Tune
    would silently begin anew: it is put aside for the one before it."""
    states = list(folder.glob("experiment_state-*.json"))
    torn = [path for path in states if not _is_json(path)]
    if torn and len(torn) == len(states):
        raise SettingsError(f"{folder} holds no readable state of the search; nearest: a new name")
    for path in torn:
        path.rename(path.with_suffix(".torn"))
    return bool(states)


def _is_json(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text()))
    except ValueError:
        return False
