"""`ganfleet search`: hyper-parameter search over one family or several, by a measure of the samples."""

from __future__ import annotations

from rich.console import Console

from infra.mlflow.tracker import version_tags
from pipelines.console import working
from pipelines.evaluate.real_data import real_data
from pipelines.evaluate.reference import reference_of
from pipelines.interrupts import InterruptedRunError
from pipelines.runs import RunFolder, Watch, keep_measure
from pipelines.search._best import SearchResult
from pipelines.search._journal import Journal
from pipelines.search._parent_run import ParentRun
from pipelines.search._play import play_and_confirm
from pipelines.search.record import check_store, deliver_record, finish_record, lacks_record_only
from pipelines.search.report.final_report import print_report, write_report
from pipelines.settings import SearchExperiment


class FailedSearchError(RuntimeError):
    """Every trial failed."""


def search(experiment: SearchExperiment, folder: RunFolder, console: Console, watch: Watch | None = None) -> None:
    """Runs or resumes the search to its last trial and confirms its best settings. Then prints the tables and the best
    settings. Of a finished search of which MLflow lacks something it only delivers that. `watch` gets the rows of each
    trial once it is evaluated.

    Raises InterruptedRunError on Ctrl-C; SettingsError if the cluster is too small, or if another process runs the
    search.
    """
    if lacks_record_only(experiment, folder):
        result = deliver_record(experiment, folder, console)
        print_report(experiment, folder, result, console)
    else:
        result = _play(experiment, folder, console, watch)
    if result.best is None:
        raise FailedSearchError(f"no trial came to an end with a {experiment.objective.label}")


def _play(experiment: SearchExperiment, folder: RunFolder, console: Console, watch: Watch | None) -> SearchResult:
    check_store(experiment, console)
    with Journal(folder.journal, folder.segments(), experiment.objective) as journal:
        with working(console, "data"):
            dataset, record = real_data(experiment, folder, console)
        reference = reference_of(experiment, dataset, console)
        keep_measure(folder, reference.tags)
        with working(console, "the search's run in MLflow"):
            parent = ParentRun(experiment, folder, {**version_tags(), **record.tags, **reference.tags})
        with parent.closed_on_error():
            result = play_and_confirm(experiment, folder, journal, parent, reference.content, console, watch)
            files = write_report(experiment, folder, result, console)
            with working(console, "the search's tables and pictures to MLflow"):
                parent.close(result, files)
        if not result.complete:
            parent.interrupt(result)
            raise InterruptedRunError
        print_report(experiment, folder, result, console)
        finish_record(experiment, folder, parent, result, console)
    return result
