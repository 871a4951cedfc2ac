"""The experiment's tree with where and how it runs; torch-free, like all of the command line's checks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, field_validator, model_validator

from gan_core.experiment import Budget, Data, Experiment, Metrics, Seed, check_family_fits
from gan_core.family import Family, build_family
from gan_core.settings import Settings, SettingsError, nearest
from infra.passwords import masked
from pipelines.settings._compute import Compute, check_shares
from pipelines.settings._search import (
    Search,
    SearchSpace,
    built_points,
    check_corners,
    check_trials,
    searched_fields,
)
from pipelines.settings._storage import Storage, Tracking
from tune_spaces.domains import Searched
from tune_spaces.domains import Space as FamilySpace
from tune_spaces.engines import check_engines


class CommonSettings(Settings):
    """What a training run and a search have in common beside the game."""

    name: str | None = None
    compute: Compute = Compute()
    tracking: Tracking = Tracking()
    storage: Storage = Storage()

    @field_validator("name")
    @classmethod
    def _a_folder_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            right = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:100] or "run"
            raise SettingsError(f"name='{name}' is no folder name; nearest: name={right}")
        return name

    @property
    def folder(self) -> Path:
        """The absolute folder of this run or search."""
        assert self.name is not None
        return self.storage.folder / self.name

    @property
    def tracking_uri(self) -> str:
        """MLflow's tracking URI, absolute: a relative one would be another store in each worker. Raises SettingsError
        if there is none."""
        check_tracking(self)
        return self.tracking.uri or f"sqlite:///{self.storage.folder}/mlflow.db"

    @property
    def curves(self) -> str:
        """The address of the pages that show what is tracked, or the command that opens them."""
        if self.tracking.server:
            return masked(self.tracking_uri)
        tracked = self.storage.argument if self.tracking.uri is None else f" tracking.uri={self.tracking_uri}"
        return f"ganfleet ui{tracked}"


class EvaluateSettings(CommonSettings):
    """What `evaluate` may be told."""

    metrics: Metrics = Metrics()


class TrainExperiment(CommonSettings, Experiment):
    """One training run."""

    @model_validator(mode="after")
    def _batch_is_shared_equally(self) -> TrainExperiment:
        check_shares(self.data, self.compute)
        return self


class SearchExperiment(CommonSettings):
    """A search over one family or several: the settings that all of its trials share."""

    seed: Seed = 0
    families: tuple[Annotated[SerializeAsAny[Family], BeforeValidator(build_family)], ...]
    fixed: tuple[str, ...] = ()
    """Family fields that were set by hand and so are not searched: `lr` in all families, `wgan.lr` in one."""
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
                " workers; nearest: compute.min_workers=null"
            )
        check_engines(self.search.sampler, self.search.scheduler)
        check_trials(self.search, [family.name for family in self.families], self.spaces())
        for family in self.families:
            check_corners(family, self.spaces()[family.name], self.data)
        self.points()
        return self

    def spaces(self) -> dict[str, FamilySpace]:
        """What is searched of each family."""
        own = searched_fields(self.space, self.families, self.fixed)
        searched = Searched(self.space.range, self.fixed, own)
        return {family.name: searched.space(type(family)) for family in self.families}

    def points(self) -> list[dict[str, Any]]:
        """`search.points` as settings of a trial; what a point leaves out is the family's own."""
        return built_points(self.search.points, self.families, self.spaces(), self.fixed)

    def defaults(self) -> list[dict[str, Any]]:
        """Each family's own settings (the papers', where nothing is fixed) as settings of a trial."""
        nothing: list[dict[str, Any]] = [{"family": family.name} for family in self.families]
        return built_points(nothing, self.families, self.spaces(), self.fixed)

    @model_validator(mode="after")
    def _plays(self) -> SearchExperiment:
        if self.metrics.asynchronous:
            raise SettingsError(
                "metrics.async=true has no meaning in a search, which decides on each FID; nearest: metrics.async=false"
            )
        check_shares(self.data, self.compute)
        for family in self.families:
            check_family_fits(family, self.data)
        return self

    def trial(self, family: dict[str, Any], seed: int | None = None) -> TrainExperiment:
        """The experiment of one trial: a sampled `{"name": ..., field: ...}` over the search's own settings, and
        another seed than the search's if one is given.

        It is saved at each evaluation: where Tune may stop it, and go on from.
        """
        base = next(known for known in self.families if known.name == family["name"])
        values = self.chosen()
        shared = {key: values[key] for key in values.keys() & TrainExperiment.model_fields.keys()}
        budget = {**shared.get("budget", {}), "checkpoint_every": self.budget.eval_every}
        if seed is not None:
            shared["seed"] = seed
        return TrainExperiment.load({**shared, "budget": budget, "family": {**base.chosen(), **family}})


def check_tracking(where: CommonSettings) -> None:
    """Raises SettingsError for runs in S3 without a place to track them: S3 holds no database, and one on this machine
    would be another than that of the next which goes on."""
    if where.tracking.uri is None and where.storage.remote:
        raise SettingsError(
            f"storage.path={where.storage.path} cannot hold MLflow's database; nearest:"
            " tracking.uri=http://HOST:PORT of an MLflow server, or tracking.uri=sqlite:////FOLDER/mlflow.db"
        )


def check_files(metrics: Metrics) -> None:
    """Raises SettingsError for a file of the settings that is not there."""
    for name, file in (("weights", metrics.weights), ("statistics", metrics.statistics)):
        if file is not None and not file.is_file():
            raise SettingsError(f"metrics.{name}={file} is no file; nearest: {_near_file(file, name)}")


def _near_file(file: Path, name: str) -> str:
    beside = [str(path) for path in file.parent.glob(f"*{file.suffix}")] if file.parent.is_dir() else []
    return f"metrics.{name}={nearest(str(file), beside)}" if beside else f"metrics.{name}=null"
