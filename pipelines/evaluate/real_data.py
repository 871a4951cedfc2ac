"""The real images of a run or search, checked before anything is played on them."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from gan_core import data
from gan_core.data.dataset import Dataset
from gan_core.experiment import check_classes, check_labelled
from gan_core.nets.check import check_networks
from pipelines.console import count_bar, say
from pipelines.data.fetch import local_data
from pipelines.runs import DataRecord, RunFolder, RunPaths
from pipelines.settings import SearchExperiment, TrainExperiment, check_batch_fits


def real_data(
    experiment: TrainExperiment | SearchExperiment, folder: RunFolder, console: Console
) -> tuple[Dataset, DataRecord]:
    """Loads the data on this machine, and prints what they are. A new run's folder gets their record.

    Raises SettingsError if a run is resumed on other data than it began with, or if a family cannot be played on them.
    """
    source = experiment.data
    local = local_data(source, experiment.storage, console)
    dataset = data.load(local, bars=partial(count_bar, console))
    _check_families(experiment, dataset)
    record = DataRecord.of(dataset, _files(experiment))
    if DataRecord.read(folder) is None:  # what began with such a batch goes on
        check_batch_fits(experiment.batches[1], experiment.compute, len(dataset.images))
    record.keep(folder, source.source, partial(_anew, experiment, folder))
    say(console, f"data: {source.name}, {record}")
    for note in [*dataset.notes, *dataset.oddities(experiment.batches[1])]:
        say(console, f"note: {note}")
    return dataset, record


def _check_families(experiment: TrainExperiment | SearchExperiment, dataset: Dataset) -> None:
    """Raises SettingsError if a family cannot be played on the data, whatever a search draws for it."""
    searched: dict[str, Any] = {}
    families = {"": experiment.family} if isinstance(experiment, TrainExperiment) else experiment.entries
    played = list(families.values())
    if isinstance(experiment, SearchExperiment):
        searched, played = dict(experiment.spaces()), experiment.corners()
    for label, family in families.items():
        check_classes(family, experiment.data, dataset.classes)
        if "labelled" not in searched.get(label, ()):
            check_labelled(getattr(family, "labelled", None), len(dataset.images))
    for family in played:
        check_networks(family, dataset.shape, dataset.classes)


def _files(experiment: TrainExperiment | SearchExperiment) -> dict[str, Path | None]:
    metrics = experiment.metrics
    return {"metrics.weights": metrics.weights, "metrics.statistics": metrics.statistics}


def _anew(experiment: TrainExperiment | SearchExperiment, folder: RunFolder) -> str:
    """The command that begins with other data: a search of its own, or a run from these weights."""
    name = f"name={folder.free_name()}"
    if isinstance(experiment, SearchExperiment):
        families = " ".join(family.name for family in experiment.families)
        return f"a search of another name: ganfleet search {families} {name} ..."
    settings = f"--config {shlex.quote(str(folder.experiment))} {name}"
    if not folder.steps():
        return f"a run of another name: ganfleet train {settings}"
    return f"a run of another name from these weights: ganfleet train {settings} --init-from {folder.path.name}"


def data_warnings(checkpoint: Path, dataset: Dataset) -> list[str]:
    """What a reader of a checkpoint's measures must know if the data are others than its run began with."""
    for place in list(checkpoint.parents)[1:5]:  # of a run, a search's trial, or a confirmation's
        before = DataRecord.read(RunPaths(place))
        if before is not None:
            changed = before.changes(DataRecord.of(dataset, {}))
            changed = [line for line in changed if not line.startswith("metrics.")]
            return [f"the data are others than the run began with: {', '.join(changed)}"] if changed else []
    return []
