"""`ganfleet search`: Ray Tune over one family or several, FID the objective."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from ray import tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import SearchAlgorithm
from rich.console import Console

from gan_core.settings import SettingsError
from infra.cluster import Cluster, cluster
from infra.mlflow_tracker import close_run, open_run, version_tags
from pipelines.confirmed import Confirmed
from pipelines.found import Found
from pipelines.outcome import Outcome, outcome_of
from pipelines.reference import obtain_reference, say_reference
from pipelines.register import register_winner, track_winner
from pipelines.report import say_found, write_found
from pipelines.room import check_room, concurrent_trials, uses_gpu
from pipelines.runs import RunFolder
from pipelines.screen import SearchView
from pipelines.settings import SearchExperiment
from pipelines.tracking import STATUS, State, close, prepare_tracking
from pipelines.train import InterruptedRunError
from pipelines.trial import SearchContext, Trial
from pipelines.worker import flat
from tune_spaces.domains import space
from tune_spaces.engines import extensible, scheduler, searcher


class FailedSearchError(RuntimeError):
    """Every trial failed."""


class Watch:
    """Follows a search from its driver: the screen, and the end of each trial's run in MLflow."""

    def __init__(self, context: SearchContext, view: SearchView) -> None:
        self.context, self.view = context, view
        self.trials: Sequence[Any] = ()
        self.done: set[str] = set()
        self.closed: set[str] = set()

    def see(self, trials: Sequence[Any]) -> None:
        """Keeps the trials; those that had ended when a search was restored count as done."""
        if not self.trials:
            self.done |= {trial.trial_id for trial in trials if trial.is_finished()}
        self.trials = trials

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
        experiment = self.context.experiment.trial(trial.config["settings"], trial.config.get("seed"))
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

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.watch.see(trials)

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
    """Runs the search, or goes on with it, to its last trial, and confirms its best settings; then prints
    both tables.

    Raises InterruptedRunError on Ctrl-C; SettingsError if the cluster is too small.
    """
    from pipelines.confirm import confirm  # it builds on this file

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
        with SearchView(console, experiment.search.trials) as view, cluster() as room:
            check_room(experiment, room)
            gpu = uses_gpu(experiment, room)
            where = (experiment.tracking_uri, tracking, parent)
            context = SearchContext(experiment, folder, yardstick.content, *where, tags, gpu)
            Relay.watch = watch = Watch(context, view)
            tuner(context, room, resume).fit()
            outcomes = watch.settle()
            confirmed: list[Confirmed] = []
            whole = _whole(outcomes, experiment)
            if whole:
                confirmed, whole = confirm(context, room, outcomes)
    except BaseException as error:
        state: State = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        close_run(experiment.tracking_uri, parent, STATUS[state], {"ganfleet.state": state}, {})
        raise
    found = Found(tuple(outcomes), tuple(confirmed))
    files = write_found(folder, experiment, found)
    failed = whole and found.best is None
    _close_parent(context, files, found, "interrupted" if not whole else "failed" if failed else "completed")
    if not whole:
        raise InterruptedRunError
    say_found(console, folder, found, experiment.storage)
    register_winner(context, found, console)
    if failed:
        raise FailedSearchError("no trial came to an end with a FID")


def _whole(outcomes: Sequence[Outcome], experiment: SearchExperiment) -> bool:
    """Whether the search has come to its end."""
    return all(one.ended for one in outcomes) and len(outcomes) >= experiment.search.trials


def _close_parent(context: SearchContext, files: list[Path], found: Found, state: State) -> None:
    tags: dict[str, str] = {"ganfleet.state": state}
    if found.best is not None and context.folder.best in files:
        tags |= found.best.tags
        track_winner(context, found)
    artifacts = {path.name: path for path in [context.folder.experiment, *files]}
    close_run(context.tracking_uri, context.parent, STATUS[state], tags, artifacts)


def tuner(context: SearchContext, room: Cluster, resume: bool) -> tune.Tuner:
    """A new tuner, or the one that the search's folder holds, with room for its trials counted."""
    experiment = context.experiment

    def sampled(concurrent: int) -> tuple[SearchAlgorithm, TrialScheduler]:
        spaces = {family.name: space(type(family), fixed=experiment.fixed) for family in experiment.families}
        sampler = searcher(experiment.search.sampler, spaces, experiment.seed)
        stopping = scheduler(experiment.search.scheduler, longest(experiment), experiment.budget.eval_every)
        return extensible(sampler, concurrent, _trials_wanted), stopping

    return planned(context, room, resume, experiment.search.trials, sampled)


def planned(
    context: SearchContext,
    room: Cluster,
    resume: bool,
    trials: int,
    plan: Callable[[int], tuple[SearchAlgorithm, TrialScheduler]],
) -> tune.Tuner:
    """A tuner of what `plan` makes of the number of trials at once, or the one that the context's folder holds."""
    trainable, concurrent = _sized(context, room)
    state = context.folder.path / "tune"
    algorithm, stopping = plan(concurrent)
    if resume and _has_state(state):
        return tune.Tuner.restore(str(state), trainable, resume_unfinished=True, restart_errored=False)
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=algorithm,
            scheduler=stopping,
            num_samples=trials,
            reuse_actors=context.experiment.compute.workers == 1,
            trial_dirname_creator=trial_id,
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


def _sized(context: SearchContext, room: Cluster) -> tuple[Any, int]:
    """The trainable with its resources, and how many trials run at once.

    The actor of a trial with several workers holds no CPU of theirs, or both would wait for ever.
    """
    concurrent = concurrent_trials(context.experiment, room)
    if context.experiment.compute.workers > 1:
        resources: dict[str, float] = {"node:__internal_head__": round(0.99 / concurrent, 4)}
    else:
        resources = {"CPU": max(1, room.cpus // concurrent) if room.local else 1}
        if context.use_gpu:
            resources["GPU"] = 1
    return tune.with_resources(tune.with_parameters(Trial, context=context), resources), concurrent


def _trials_wanted() -> int:
    """How many trials the search of this process asks for; a restored one may have been pickled with fewer."""
    return Relay.watch.context.experiment.search.trials


def trial_id(trial: Any) -> str:
    """A trial's folder is named by its id."""
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
