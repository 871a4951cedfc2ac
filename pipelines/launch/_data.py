"""What is known of a request's data before they are read: that they are there, how many they are, and how large."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rich.console import Console

from gan_core.experiment import POINTS, Data, check_classes, check_labelled, check_measures
from gan_core.files import cache_folder
from gan_core.settings import SettingsError
from gan_core.settings.image_size import IMAGE_SIZES
from pipelines.console import working
from pipelines.settings import SearchExperiment, Storage, TrainExperiment, check_batch_fits, open_store, read_manifest

Asked = TypeVar("Asked", TrainExperiment, SearchExperiment)

SIZED_BY_FILES = ("folder", "npz", "packed")
"""Data sets whose `data.image_size` follows from their files if it is not given."""

_BUILT_IN = {"digits": (1_797, 10), "ring8": (8_000, 8), "grid25": (25_000, 25)}
"""Samples and classes of the sets that have no files."""


@dataclass(frozen=True)
class FoundData:
    """Data that were found, as far as they are known without being read."""

    images: int | None = None
    classes: int | None = None
    sides: Sequence[int] = ()
    """The shorter sides of some images, in pixels; empty if the images have no size of their own."""
    size: int | str | None = None
    """The size of all images, as `data.image_size` has it; None if they may be of any."""


def find_data(data: Data, storage: Storage) -> FoundData:
    """Looks the data up. Raises SettingsError if they are not there. Files that may be downloaded need not be, and a
    function of the user's own is not called."""
    if data.name in _BUILT_IN:
        return FoundData(*_BUILT_IN[data.name])
    if data.own and data.path is None:
        from gan_core.data.given.own import find_own

        find_own(data.name)
        return FoundData()
    if data.is_pack:
        assert data.path is not None
        manifest = read_manifest(open_store(data.path, storage), f"data.path={data.path}")
        return FoundData(manifest.images, manifest.classes, size=manifest.image_size)
    from gan_core.data.sets.find import find_source

    try:
        source = find_source(data.model_copy(update={"download": False}), cache_folder())
    except SettingsError:
        if data.download:
            return FoundData()
        raise
    sides = source.sides() if data.name in SIZED_BY_FILES and "image_size" not in data.model_fields_set else ()
    return FoundData(source.count, source.classes, sides)


def with_data(experiment: Asked) -> tuple[Asked, tuple[str, ...]]:
    """The experiment with the size of its images, and lines that say which that is if the settings do not. A data set
    of the user's own has become a pack.

    Raises SettingsError if the data are not there, or too few for the batch or for a family.
    """
    sized = "image_size" in experiment.data.model_fields_set
    experiment = with_own_data(experiment)
    found = find_data(experiment.data, experiment.storage)
    _check_fits(experiment, found)
    size, notes = image_size(experiment.data, found)
    if experiment.data.own and not sized:
        notes = (f"data.image_size={experiment.data.image_size}, as {experiment.data.name} has it",)
    smallest, largest = experiment.batches
    if smallest < largest and experiment.budget.rounds is not None:
        images = f"{experiment.budget.rounds * smallest:g}"
        notes += (f"trials of larger batches see more images; budget.images={images} compares them at equal numbers",)
    return experiment if size is None else experiment.override(f"data.image_size={size}"), notes


def with_own_data(experiment: Asked) -> Asked:
    """The experiment with the pack of what the user's function returns now; the same if the data are no function's.

    The function is called in this process only, and the pack is in the runs' storage: workers, trials and later
    commands read it there, and need not be able to call the function. Raises SettingsError.
    """
    data = experiment.data
    if not data.own:
        return experiment
    console = Console(file=sys.stderr)
    with working(console, f"{data.name} makes the data"):
        from gan_core.data.given.own import own_data

        images = own_data(data.name)
        from pipelines.data.given import given_data  # takes seconds, and the function may be wrong

        size = data.image_size if "image_size" in data.model_fields_set else None
        found = given_data(images, experiment.storage, console, size, data.source)
    values: dict[str, Any] = {**data.chosen(), "path": found["data.path"], "image_size": found["data.image_size"]}
    return experiment.load({**experiment.chosen(), "data": values})


def as_found(experiment: Asked, before: Data) -> Asked:
    """The experiment with what the data of an earlier command were found to be, where these settings leave it open:
    the size of the images, and the pack of what the user's function returned."""
    experiment = sized_as(experiment, before.image_size)
    data = experiment.data
    if not data.own or data.name != before.name or data.path is not None:
        return experiment
    return experiment.load({**experiment.chosen(), "data": {**data.chosen(), "path": before.path}})


def tried(experiment: Asked) -> tuple[Asked, tuple[str, ...]]:
    """As `with_data` for a dry run, which may run where the data are not: then a line says so. It asks no S3."""
    data = experiment.data
    if data.own:
        find_data(data, experiment.storage)
        sized = "image_size" in data.model_fields_set
        return experiment, () if sized else (f"data.image_size follows from the images of {data.name}",)
    if isinstance(data.path, str):
        return experiment, () if "image_size" in data.model_fields_set else ("data.image_size follows from the pack",)
    try:
        find_data(data, experiment.storage)
    except SettingsError as error:
        return experiment, () if data.path is None else (f"as things are, it would not start: {error}",)
    return with_data(experiment)


def image_size(data: Data, found: FoundData) -> tuple[int | str | None, tuple[str, ...]]:
    """The size of a pack, or the largest usual size that is at most the median of the images' shorter sides, and a line
    that says so. None and no line if the size is given, or if the images have none of their own."""
    if "image_size" in data.model_fields_set or data.name not in SIZED_BY_FILES:
        return None, ()
    if found.size is not None:
        return found.size, (f"data.image_size={found.size}, as the pack has it",)
    if not found.sides:
        return None, ()
    middle = statistics.median(found.sides)
    size = max((known for known in IMAGE_SIZES if known <= middle), default=min(IMAGE_SIZES))
    return size, (f"data.image_size={size}, as the images' shorter sides have a median of {middle:g} pixels",)


def sized_as(experiment: Asked, size: int | str) -> Asked:
    """The experiment with the image size of another, if it gives none and its files would decide."""
    data = experiment.data
    if "image_size" in data.model_fields_set or not (data.own or data.name in SIZED_BY_FILES):
        return experiment
    return experiment.override(f"data.image_size={size}")


def _check_fits(experiment: TrainExperiment | SearchExperiment, found: FoundData) -> None:
    data = experiment.data
    families = [experiment.family] if isinstance(experiment, TrainExperiment) else list(experiment.families)
    if found.classes is not None:
        for family in families:
            check_classes(family, data, found.classes)
        metric = experiment.search.metric if isinstance(experiment, SearchExperiment) else None
        check_measures(experiment.metrics, data, found.classes, metric)
    if found.images is None:
        return
    held_out = max(round(data.held_out * found.images), 1) if data.held_out and data.name not in POINTS else 0
    check_batch_fits(experiment.batches[1], experiment.compute, found.images - held_out)
    if isinstance(experiment, TrainExperiment):
        check_labelled(getattr(experiment.family, "labelled", None), found.images - held_out)
