"""A search beside "Are GANs Created Equal?" (Lucic et al. 2018, arXiv:1711.10337): the study's models, its published
FIDs, and how alike the two rank them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from gan_core.family import Family
from pipelines.runs import RunPaths, measured_with
from pipelines.search._families import family_table
from pipelines.search._outcome import Outcome, short_names
from pipelines.search.confirmation.results import ConfirmedTrial
from pipelines.settings import SearchExperiment

FEWEST = 3
"""Models from which on a rank correlation is given."""
_TITLES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10", "celeba": "CelebA"}


@dataclass(frozen=True)
class StudyRow:
    """One model: FIDs of its best settings over seeds, here and in the study, and its ranks among the models that both
    have; None of what there is not."""

    model: str
    """What tables call the family."""
    mean: float | None
    sd: float | None
    lost: int | None
    """Seeds here that did not reach the end."""
    published: float | None
    published_sd: float | None
    rank: int | None
    published_rank: int | None


@dataclass(frozen=True)
class StudyTable:
    """The models, the best here first, and Spearman's rank correlation with published columns."""

    rows: Sequence[StudyRow]
    data: str
    """The data set that was played."""
    published: str | None
    """The data set of the published column beside ours; None if the study has none of these data."""
    correlations: Mapping[str, float]
    """By data set of the study: of the same one, or of all four if the study does not have it. Empty of too few models,
    or where all are equal."""
    extractor: str
    models: int
    """How many models the correlations are of."""

    @property
    def lines(self) -> list[str]:
        """What is to be known of the numbers, as sentences."""
        found = [
            f"FID here is of the features of {self.extractor}, the study's of Inception's on 10,000 test images: only"
            " ranks compare."
        ]
        if self.published is None:
            found.append(f"The study has no column of data.name={self.data}.")
        if self.models < FEWEST:
            needed = f"A rank correlation needs {FEWEST} models with confirmed settings, there are {self.models}."
            return [*found, needed]
        named = [f"{_TITLES[name]} {value:.2f}" for name, value in self.correlations.items()]
        if named:
            alike = f"Spearman's rank correlation with the FIDs published of {self.models} models"
            found.append(f"{alike}: {', '.join(named)}.")
        return found

    @property
    def title(self) -> str:
        """What the published column is called."""
        return "published" if self.published is None else f"published, {_TITLES[self.published]}"


def study_table(
    folder: RunPaths, experiment: SearchExperiment, outcomes: Sequence[Outcome], confirmed: Sequence[ConfirmedTrial]
) -> StudyTable | None:
    """The table of a search that compares the study's models by FID; None of another search."""
    models = {label: model for label, family in experiment.entries.items() if (model := _model(family)) is not None}
    if not (experiment.search.compare and experiment.objective.is_fid and models):
        return None
    column = published().get(experiment.data.name)
    ours = {row.family: row for row in family_table(outcomes, confirmed, experiment.objective) if row.family in models}
    both = [label for label, row in ours.items() if row.mean is not None]
    ranks = _ranks({label: float(ours[label].mean or 0) for label in both})
    theirs = _ranks({label: column[models[label]][0] for label in both}) if column else {}
    names = short_names(experiment.entries)
    rows = []
    for label in [*ours, *(label for label in models if label not in ours)]:
        row, (known, known_sd) = ours.get(label), column[models[label]] if column else (None, None)
        measured = (row.mean, row.sd, row.lost) if row else (None, None, None)
        rows.append(StudyRow(names[label], *measured, known, known_sd, ranks.get(label), theirs.get(label)))
    columns = {experiment.data.name: column} if column else published()
    correlations = {
        name: _correlation([float(ours[label].mean or 0) for label in both], [one[models[label]][0] for label in both])
        for name, one in columns.items()
        if len(both) >= FEWEST
    }
    extractor = measured_with(folder).get("extractor", experiment.metrics.extractor)
    sound = {name: value for name, value in correlations.items() if math.isfinite(value)}
    same = experiment.data.name if column else None
    return StudyTable(rows, experiment.data.name, same, sound, extractor, len(both))


@cache
def published() -> Mapping[str, Mapping[str, Sequence[float]]]:
    """The study's FIDs, `[mean, sd]` by data set and model."""
    found: dict[str, dict[str, list[float]]] = yaml.safe_load(Path(__file__).with_name("equal.yaml").read_text())
    return found


def _model(family: Family) -> str | None:
    """The model of the study that a family with the study's nets is; None if it is none."""
    loss = getattr(family, "loss", None)
    name = f"{family.name}-{loss}" if family.name == "gan" else family.name
    known = name in published()["mnist"] and getattr(family, "net", None) == "infogan"
    return name if known else None


def _ranks(values: Mapping[str, float]) -> dict[str, int]:
    """1 for the lowest value; equal values have the same rank."""
    ordered = sorted(values.values())
    return {name: 1 + ordered.index(value) for name, value in values.items()}


def _correlation(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Spearman's; NaN if all of ours are equal."""
    from scipy.stats import spearmanr

    return float(spearmanr(ours, theirs).statistic) if len(set(ours)) > 1 else math.nan
