"""The record of a search in MLflow, delivered later if the driver was killed or MLflow was away."""

from __future__ import annotations

from rich.console import Console

from pipelines.console import working
from pipelines.runs import RunFolder
from pipelines.search._best import SearchResult
from pipelines.search._journal import Journal, read_records
from pipelines.search._outcome import outcome_of
from pipelines.search._parent_run import ParentRun
from pipelines.search._play import close_all, sampler_of, trial_names
from pipelines.search.progress import all_confirmed
from pipelines.search.report.final_report import write_report
from pipelines.settings import SearchExperiment
from pipelines.tracking.retry import UntrackedNote, print_undelivered
from pipelines.tracking.runs import check_tracking_server, undelivered_error


def check_store(experiment: SearchExperiment, console: Console) -> None:
    """Raises SettingsError if MLflow's store refuses or does not answer."""
    with working(console, "MLflow's store"):
        check_tracking_server(experiment)


def finish_record(
    experiment: SearchExperiment, folder: RunFolder, parent: ParentRun, result: SearchResult, console: Console
) -> None:
    """Registers the winner of a search that was just played. If MLflow lacks something then, prints the command that
    delivers it."""
    with working(console, "the winner's registration in MLflow"):
        failure = parent.finish(result, console)
    if failure is not None:
        print_undelivered(console, experiment, failure, folder.path.name)


def lacks_record_only(experiment: SearchExperiment, folder: RunFolder) -> bool:
    """Whether nothing of the search is left to play, but MLflow may lack some of its record."""
    return bool(UntrackedNote(folder)) and finished(experiment, folder)


def deliver_record(experiment: SearchExperiment, folder: RunFolder, console: Console) -> SearchResult:
    """Delivers what MLflow lacks of a search that no driver plays, with its tables and pictures. An unfinished search
    is ended in MLflow as interrupted. Returns the result so far.

    Raises SettingsError if the store refuses, UnavailableError if it does not answer.
    """
    check_store(experiment, console)
    with Journal(folder.journal, folder.segments(), experiment.objective) as journal:
        parent = ParentRun(experiment, folder, UntrackedNote(folder).tags)
        with parent.closed_on_error():
            result = close_all(experiment, folder, journal, parent)
            parent.close(result, write_report(experiment, folder, result, console))
        failure = parent.finish(result, console)
    if failure is not None:
        raise undelivered_error(experiment, failure)
    return result


def finished(experiment: SearchExperiment, folder: RunFolder) -> bool:
    """Whether all trials and confirmation runs have ended, by the journals."""
    trials = read_records(folder)
    wanted = trial_names(experiment, sampler_of(experiment), trials)
    limited = experiment.search.hours is not None or experiment.search.images is not None
    if not all(one.ended for one in trials.values()) or not (limited or trials.keys() >= set(wanted)):
        return False
    last_round = experiment.budget.last_round(experiment.batches[0])
    outcomes = [outcome_of(record, last_round, folder, experiment.objective) for record in trials.values()]
    return all_confirmed(experiment, folder, outcomes)
