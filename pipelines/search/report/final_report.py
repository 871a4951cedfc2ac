"""All that a search writes and prints at its end: tables, families compared, pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from pipelines.console import working
from pipelines.runs import RunFolder
from pipelines.search._best import SearchResult
from pipelines.search._outcome import short_names, with_names
from pipelines.search._study import study_table
from pipelines.search.plots.draw import try_to_draw
from pipelines.search.report._published import print_published, write_published
from pipelines.search.report._tables import print_families, print_tables, write_families, write_tables
from pipelines.settings import SearchExperiment


def write_report(experiment: SearchExperiment, folder: RunFolder, result: SearchResult, console: Console) -> list[Path]:
    """Writes all tables and pictures. Returns the files."""
    with working(console, "tables and pictures"):
        files = write_tables(folder, experiment, result)
        if experiment.search.compare:
            files += write_families(folder, result)
        table = study_table(folder, experiment, result.outcomes, result.confirmed)
        if table is not None:
            files += write_published(folder, table)
        files += try_to_draw(console, folder, experiment, result.outcomes, result.confirmed)
        folder.upload(*files)
    return files


def print_report(experiment: SearchExperiment, folder: RunFolder, result: SearchResult, console: Console) -> None:
    """Prints the tables of trials, of confirmed settings and of families, the best settings, and published FIDs beside
    ours if the study's models were compared."""
    table = study_table(folder, experiment, result.outcomes, result.confirmed)
    names = short_names(experiment.entries)
    result = replace(
        result,
        outcomes=with_names(result.outcomes, names),
        confirmed=[replace(one, trial=with_names([one.trial], names)[0]) for one in result.confirmed],
    )
    print_tables(console, folder, result, experiment)
    if experiment.search.compare:
        print_families(console, result)
    if table is not None:
        print_published(console, folder, table)
