"""The trees of settings of a training run and of a search. Imports no torch, like all checks of the command line."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, field_validator, model_validator

from gan_core.experiment import Budget, Data, Experiment, Seed, check_family_fits, check_measures
from gan_core.family import Family, build_family
from gan_core.measures import Metrics, Objective, check_name, is_own, own_measure
from gan_core.settings import Settings, SettingsError, keep, kept_in, similar_file
from infra.mlflow.sqlite_uri import sqlite_file, sqlite_uri
from pipelines.settings._compute import Compute, check_equal_batches
from pipelines.settings._credentials import check_no_secrets
from pipelines.settings._reliability import Reliability
from pipelines.settings._search import (
    Search,
    SearchSpace,
    built_points,
    check_batches,
    check_trials,
    corners,
    labels,
    searched_fields,
)
from pipelines.settings._storage import Storage, Tracking
from tune_spaces.domains import BATCH_SIZE, SearchedFields
from tune_spaces.domains import Space as FamilySpace
from tune_spaces.engines import check_engines

_OBJECTS = "__objects__"


class CommonSettings(Settings):
    """What a training run and a search have in common, apart from the game."""

    name: str | None = None
    """Name of the run or search, and of its folder; null: made from the family and the time, and printed."""
    compute: Compute = Compute()
    reliability: Reliability = Reliability()
    tracking: Tracking = Tracking()
    storage: Storage = Storage()

    @field_validator("name")
    @classmethod
    def _a_folder_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            right = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:100] or "run"
            raise SettingsError(f"name='{name}' is no folder name", nearest=f"name={right}")
        return name

    @model_validator(mode="after")
    def _no_secrets(self) -> CommonSettings:
        check_no_secrets(self.model_dump(mode="json"))
        return self

    def __getstate__(self) -> dict[Any, Any]:
        """For another process, with the objects that it cannot import: of a notebook, of a script."""
        return {**super().__getstate__(), _OBJECTS: kept_in(self.model_dump(mode="json"))}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        keep(state.pop(_OBJECTS, {}))
        super().__setstate__(state)

    @property
    def folder(self) -> Path:
        """The absolute folder of this run or search."""
        assert self.name is not None
        return self.storage.folder / self.name

    @property
    def tracking_uri(self) -> str:
        """MLflow's tracking URI, absolute because workers have other working folders. Raises SettingsError if there is
        none."""
        check_tracking(self)
        if self.tracking.server:
            return str(self.tracking.uri)
        given = self.tracking.uri
        return sqlite_uri(self.storage.folder / "mlflow.db" if given is None else sqlite_file(given))

    @property
    def curves(self) -> str:
        """The address of MLflow's pages of this run, or the command that opens them."""
        if self.tracking.server:
            return self.tracking_uri
        if self.tracking.uri is None:
            return f"ganfleet ui{self.storage.command_suffix}"
        return f"ganfleet ui {shlex.quote(f'tracking.uri={self.tracking_uri}')}"


class EvaluateSettings(CommonSettings):
    """The settings that `evaluate` takes."""

    metrics: Metrics = Metrics()


class TrainExperiment(CommonSettings, Experiment):
    """One training run."""

    @property
    def batches(self) -> tuple[int, int]:
        """The smallest and the largest global batch: the one that it has."""
        return self.data.batch_size, self.data.batch_size

    @model_validator(mode="after")
    def _batch_is_shared_equally(self) -> TrainExperiment:
        check_equal_batches(self.data, self.compute)
        return self


class SearchExperiment(CommonSettings):
    """A search over one family or several: what its trials share, and what is searched."""

    seed: Seed = 0  # the sampler's too; confirmation uses fresh ones
    """Seed of initial weights, noise and the order of images."""
    families: tuple[Annotated[SerializeAsAny[Family], BeforeValidator(build_family)], ...]
    """The families to search; on the command line, the words after `search`."""
    fixed: tuple[str, ...] = ()
    """Family fields that the user set, which are not searched: `lr` in all families, `wgan.lr` in one. Derived from
    `family.*`."""
    data: Data = Data()
    budget: Budget = Budget()
    metrics: Metrics = Metrics()
    search: Search = Search()
    space: SearchSpace = SearchSpace()

    @model_validator(mode="after")
    def _can_be_searched(self) -> SearchExperiment:
        if self.compute.min_workers is not None:
            raise SettingsError(
                f"compute.min_workers={self.compute.min_workers} is of a training run, a trial waits for all of its"
                " workers",
                nearest="compute.min_workers=null",
            )
        check_engines(self.search.sampler, self.search.scheduler)
        check_trials(self.search, self._labels(), self.spaces())
        for family in self.corners():
            check_family_fits(family, self.data)
        self.points()
        return self

    def _labels(self) -> list[str]:
        return labels([family.model_dump() for family in self.families])

    @property
    def entries(self) -> dict[str, Family]:
        """The families by what the search calls them in trials, tables and pictures: by name, and those of one name by
        the values in which they differ too, as `gan-minimax`."""
        return dict(zip(self._labels(), self.families, strict=True))

    def spaces(self) -> dict[str, FamilySpace]:
        """The fields of each family that are searched, with their domains, by what the search calls the family."""
        entries = self.entries
        own = searched_fields(self.space, entries, self.fixed)
        searched = SearchedFields(self.space.range, self.fixed, own)
        return {label: searched.space(family, label) for label, family in entries.items()}

    def corners(self) -> list[Family]:
        """Each family with settings from the ends of its space, and with each value of a choice: what may not fit."""
        spaces = self.spaces()
        return [corner for label, family in self.entries.items() for corner in corners(family, spaces[label])]

    def points(self) -> list[dict[str, Any]]:
        """`search.points` as settings of trials. A searched field that a point leaves out has the family's value."""
        return built_points(self.search.points, self.entries, self.spaces(), self.fixed, self.data)

    def defaults(self) -> list[dict[str, Any]]:
        """Each family's own settings as settings of a trial: the paper's, unless the user fixed others."""
        nothing: list[dict[str, Any]] = [{"family": label} for label in self.entries]
        return built_points(nothing, self.entries, self.spaces(), self.fixed, self.data)

    @property
    def objective(self) -> Objective:
        """The measure by which trials are ranked."""
        return self.search.objective

    @property
    def measured(self) -> Metrics:
        """How the samples of trials are measured: the objective is among the measures."""
        if self.search.metric in ("fid", *self.metrics.measures):
            return self.metrics
        return self.metrics.model_copy(update={"measures": (self.search.metric, *self.metrics.measures)})

    @property
    def batches(self) -> tuple[int, int]:
        """The smallest and the largest global batch that a trial may have."""
        domain = next(iter(self.spaces().values())).get(BATCH_SIZE)
        sizes = [self.data.batch_size] if domain is None else [int(end) for end in domain.ends]
        return min(sizes), max(sizes)

    @model_validator(mode="after")
    def _each_family_fits(self) -> SearchExperiment:
        if self.metrics.asynchronous:
            raise SettingsError(
                "metrics.async=true has no meaning in a search, which decides on each FID",
                nearest="metrics.async=false",
            )
        batches = next(iter(self.spaces().values())).get(BATCH_SIZE)
        if batches is None:
            check_equal_batches(self.data, self.compute)
        else:
            check_batches(batches, self.compute, self.data.micro_batch)
        for family in self.families:
            check_family_fits(family, self.data)
        check_measures(self.metrics, self.data, metric=self.search.metric)
        fields = {field for family in self.families for field in type(family).model_fields}
        check_name("search.metric", self.search.metric, taken=fields)
        return self

    def trial(self, family: dict[str, Any], seed: int | None = None) -> TrainExperiment:
        """The experiment of one trial: the search's settings with the sampled `family`, `{"name": ..., field: ...}`
        with a name of `entries`, and with `seed` if one is given.

        It has a checkpoint at each evaluation, because Ray Tune may stop it there and resume it later.
        """
        base = self.entries[family["name"]]
        values = self.chosen()
        shared = {key: values[key] for key in values.keys() & TrainExperiment.model_fields.keys()}
        budget = {**shared.get("budget", {}), "checkpoint_every": self.budget.eval_every}
        if seed is not None:
            shared["seed"] = seed
        if self.measured.measures:
            shared["metrics"] = self.measured.chosen()
        if BATCH_SIZE in family:
            shared["data"] = {**shared.get("data", {}), "batch_size": family[BATCH_SIZE]}
        own = {field: value for field, value in family.items() if field not in ("name", BATCH_SIZE)}
        return TrainExperiment.load({**shared, "budget": budget, "family": {**base.chosen(), **own}})


def check_tracking(settings: CommonSettings) -> None:
    """Raises SettingsError for runs in S3 without a `tracking.uri`.

    S3 holds no database, and another machine that resumes the run would not find a local one.
    """
    if settings.tracking.uri is None and settings.storage.remote:
        raise SettingsError(
            f"storage.path={settings.storage.path} cannot hold MLflow's database",
            nearest="tracking.uri=http://HOST:PORT of an MLflow server, or tracking.uri=sqlite:////FOLDER/mlflow.db",
        )


def check_paths(settings: CommonSettings) -> None:
    """Raises SettingsError for a path that is no UTF-8, which may come from the working folder's."""
    for section, values in settings.model_dump().items():
        for key, value in values.items() if isinstance(values, dict) else ():
            check_text(f"{section}.{key}", value)
    check_text("storage.path", settings.storage.folder)


def check_text(key: str, value: object) -> None:
    """Raises SettingsError for a value that is no UTF-8: neither the settings' file nor MLflow can hold it."""
    try:
        str(value).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(str(value)).decode(errors="backslashreplace")
        raise SettingsError(
            f"{key}={shown} is no UTF-8, so no settings file and no MLflow can hold it",
            nearest=f"{key}= a name in UTF-8, which a link may have",
        ) from None


def check_functions(metrics: Metrics, metric: str = "fid") -> None:
    """Raises SettingsError for a measure of one's own that cannot be imported, or that takes other arguments. `metric`:
    a search's."""
    named = [("search.metric", metric), *(("metrics.measures", name) for name in metrics.measures)]
    for setting, name in named:
        if is_own(name):
            own_measure(setting, name)


def check_files(metrics: Metrics) -> None:
    """Raises SettingsError if the settings name a file that does not exist."""
    for name, file in (("weights", metrics.weights), ("statistics", metrics.statistics)):
        if file is not None and not file.is_file():
            in_folder = [path.name for path in file.parent.glob(f"*{file.suffix}")] if file.parent.is_dir() else []
            found = similar_file(file.name, in_folder)
            right = "null" if found is None else file.parent / found
            raise SettingsError(f"metrics.{name}={file} is no file", nearest=f"metrics.{name}={right}")
