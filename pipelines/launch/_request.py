"""What a command line of `train` or `search` orders; the same checks wherever it is then played."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from gan_core.settings import SettingsError
from pipelines.launch._from_search import winner_experiment
from pipelines.launch._resume import resumed_search, resumed_train
from pipelines.runs import RunFolder, run_folder
from pipelines.settings import (
    SearchExperiment,
    TrainExperiment,
    read_config,
    search_experiment,
    spelled,
    split,
    train_experiment,
)

Ordered = TypeVar("Ordered", TrainExperiment, SearchExperiment)


@dataclass(frozen=True)
class Line:
    """A command line as it was typed."""

    families: list[str]
    assignments: list[str]
    config: Path | None = None
    resume: str | None = None
    from_search: str | None = None

    @staticmethod
    def of(
        words: Sequence[str] | None, config: Path | None, resume: str | None, from_search: str | None = None
    ) -> Line:
        """From its words: those with `=` are settings."""
        families, assignments = split(words)
        return Line(families, spelled(assignments), config, resume, from_search)


@dataclass(frozen=True)
class Order(Generic[Ordered]):
    """A run or search that is whole and checked, and not begun."""

    experiment: Ordered
    folder: RunFolder
    resumed: bool
    origin: dict[str, str] = field(default_factory=dict)
    """Tags that say where its settings are from."""


def folder_of(experiment: TrainExperiment | SearchExperiment) -> RunFolder:
    """The run's, by the name that it has by now."""
    assert experiment.name is not None
    return run_folder(experiment.storage, experiment.name)


def train_order(line: Line) -> Order[TrainExperiment]:
    """Raises SettingsError for all that is wrong with the line."""
    if line.from_search is not None:
        found, of_search = winner_experiment(
            line.from_search, line.families, line.assignments, line.config, line.resume
        )
        return Order(found, folder_of(found), False, of_search.tags)
    if line.resume is not None:
        experiment, folder = resumed_train(line.resume, _without_families(line, line.resume))
        return Order(experiment, folder, True)
    experiment = train_experiment(line.families, line.assignments, read_config(line.config))
    return Order(experiment, folder_of(experiment), False)


def search_order(line: Line) -> Order[SearchExperiment]:
    """Raises SettingsError for all that is wrong with the line."""
    if line.from_search is not None:
        raise SettingsError(
            f"--from-search {line.from_search} trains its best settings;"
            f" nearest: train --from-search {line.from_search}, or search --resume {line.from_search}"
        )
    if line.resume is not None:
        experiment, folder = resumed_search(line.resume, _without_families(line, line.resume))
        return Order(experiment, folder, True)
    experiment = search_experiment(line.families, line.assignments, read_config(line.config))
    return Order(experiment, folder_of(experiment), False)


def _without_families(line: Line, resume: str) -> list[str]:
    if line.families:
        raise SettingsError(f"--resume {resume} knows its family; nearest: leave out '{line.families[0]}'")
    return line.assignments
