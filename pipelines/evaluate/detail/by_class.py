"""FID of each class of a conditional family's samples."""

from __future__ import annotations

from typing import Any

from gan_core.data.dataset import Dataset
from gan_core.loop import Game
from gan_core.measures import Metrics
from gan_core.metrics.by_class import class_distances, moments_by_class
from gan_core.metrics.statistics.reference import Reference, labelled_batches, reference_rows
from gan_core.metrics.statistics.tally import Tally
from gan_core.settings import SettingsError


def check_by_class(game: Game, dataset: Dataset, reference: Reference, settings: Metrics, count: int) -> None:
    """Raises SettingsError if no class has an FID: without labels, without single real images, or with too few."""
    family, width = game.experiment.family.name, len(reference.target.mean)
    if not game.conditional:
        raise SettingsError(
            f"--by-class: {family} draws no class", nearest="a run of cgan, cwgan_gp or biggan, or no --by-class"
        )
    if settings.statistics is not None:
        raise SettingsError(
            f"--by-class: metrics.statistics={settings.statistics} is of all classes", nearest="metrics.statistics=null"
        )
    if count // dataset.classes <= width:
        raise SettingsError(
            f"--by-class: {count} samples are {count // dataset.classes} a class, FID of {width} features takes more",
            nearest=f"metrics.samples={dataset.classes * (width + 1)}",
        )
    most = int(dataset.labels[reference_rows(len(dataset.images), _count(dataset, reference))].bincount().max())
    if most <= width:
        raise SettingsError(
            f"--by-class: no class has more than {most} real images, FID of {width} features takes more",
            nearest="an extractor with fewer features, or no --by-class",
        )


def by_class(dataset: Dataset, reference: Reference, fake: Tally) -> list[dict[str, Any]]:
    """A row for each class: its name, its FID (None with a note if it has too few images), and how many images each
    side has. `fake` must have been told the labels."""
    width, batches = len(reference.target.mean), labelled_batches(dataset, _count(dataset, reference))
    names = dataset.class_names or tuple(map(str, range(dataset.classes)))
    found = class_distances(moments_by_class(reference.extractor.features, batches), fake.by_class, dataset.classes)
    return [
        {
            "class": name,
            "fid": one.fid,
            "real": one.real,
            "generated": one.generated,
            **({} if one.fid is not None else {"note": f"too few images for {width} features"}),
        }
        for name, one in zip(names, found, strict=True)
    ]


def _count(dataset: Dataset, reference: Reference) -> int:
    return reference.count or len(dataset.images)
