"""What samples are measured by: the measures by name, which of two values is better, and `metrics` of the settings.

Imports no torch, like all checks of the command line.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from gan_core.files import expanded
from gan_core.settings import IMPORT_PATH, Settings, SettingsError, imported, unknown

Mode = Literal["min", "max"]


@dataclass(frozen=True)
class Measure:
    """A measure that every run can be asked for."""

    label: str
    mode: Mode
    """Whether lower (min) or higher (max) values are better."""


MEASURES: Mapping[str, Measure] = {
    "fid": Measure("FID", "min"),
    "kid": Measure("KID", "min"),
    "inception_score": Measure("Inception Score", "max"),
    "precision": Measure("precision", "max"),
    "recall": Measure("recall", "max"),
    "density": Measure("density", "max"),
    "coverage": Measure("coverage", "max"),
    "modes": Measure("modes", "max"),
    "high_quality": Measure("high quality", "max"),
    "modes_kl": Measure("KL of modes", "min"),
}
"""The measures by their names in rows and in MLflow."""

OF_PAIRS = frozenset({"kid", "precision", "recall", "density", "coverage"})
"""Measures that compare single features of samples with single features of real images."""

_OF_MIXTURES = frozenset({"modes", "high_quality"})
_OF_STACKS = frozenset({"modes", "modes_kl"})
FEWEST = {"inception_score": 20, "precision": 4, "recall": 4, "density": 6, "coverage": 6}
"""Samples that a measure takes: two for each of ten splits, or one more than the neighbour's number."""
_INCEPTION = "metrics.extractor=inception-v3 with metrics.download=true or metrics.weights=FILE"
_TAKEN = frozenset(
    [
        *("variety", "step", "last_step", "images_seen", "images_per_second", "rollbacks", "time", "signs"),
        *("trial", "state", "reason", "family", "checkpoint", "search", "seed", "seeds", "mean", "sd", "min", "max"),
        *("done", "failed", "lost", "full_disk", "config", "date", "hostname", "node_ip", "pid", "timestamp"),
        *("training_iteration", "experiment_tag", "should_checkpoint", "trial_id", "kid_std", "best", "name"),
        *("kind", "id", "data", "sign", "origin", "metric", "value", "run_fid"),
    ]
)
"""What else rows, tables and tags have by these names."""


@dataclass(frozen=True)
class Objective:
    """The measure by which trials are ranked."""

    name: str = "fid"
    """As rows and MLflow have it; of a function of one's own, the function's name."""
    mode: Mode = "min"

    @property
    def label(self) -> str:
        """What tables and pictures call it."""
        return MEASURES[self.name].label if self.name in MEASURES else self.name

    def written(self, value: float) -> str:
        """A value as MLflow's tags have it."""
        return f"{value:.4f}" if self.is_fid else f"{value:.6g}"

    @property
    def is_fid(self) -> bool:
        """Whether it is FID, which is measured in any case."""
        return self.name == "fid"

    def loss(self, value: float) -> float:
        """A number that is lower for a better value, to sort and to minimise by."""
        return value if self.mode == "min" else -value

    def better(self, value: float, other: float) -> bool:
        """Whether a value is better than another."""
        return self.loss(value) < self.loss(other)

    def best(self, values: Iterable[float]) -> float | None:
        """The best of the values; None if there are none."""
        return min(values, key=self.loss, default=None)

    def worst(self, values: Iterable[float]) -> float | None:
        """The worst of the values; None if there are none."""
        return max(values, key=self.loss, default=None)

    @property
    def failure(self) -> float:
        """The value of a trial that has failed: infinitely bad."""
        return self.loss(math.inf)

    @property
    def extreme(self) -> str:
        """What the best value is: lowest, or highest."""
        return "lowest" if self.mode == "min" else "highest"


FID = Objective()


def measure_name(path: str) -> str:
    """The name in rows of a measure: `score` of `my_pkg.measures:score`, else as it is."""
    return re.split(r"[:.]", path)[-1]


def is_own(path: str) -> bool:
    """Whether a measure is a function of the user's."""
    return ":" in path


def measures_pairs(metrics: Metrics) -> bool:
    """Whether a measure of the settings needs features of single real images."""
    return not OF_PAIRS.isdisjoint(metrics.measures)


def check_name(setting: str, name: str, known: Iterable[str] = MEASURES, taken: Collection[str] = ()) -> None:
    """Raises SettingsError unless `name` is a known measure, or the place of a function whose own name is free.
    `taken`: names that are not. Imports nothing."""
    if not IMPORT_PATH.fullmatch(name):
        if name not in known:
            raise SettingsError(unknown(setting, name, [*known, "package.module:function"]))
        return
    short = measure_name(name)
    if short in MEASURES or short in _TAKEN or short in taken or short.startswith("time"):
        raise SettingsError(
            f"{setting}={name}: {short} is the name of something else in rows and tables",
            nearest=f"call the function {short}_score",
        )


def own_measure(setting: str, path: str) -> Callable[[Any, Any, Any], Any]:
    """The function at `package.module:function`. Raises SettingsError if it cannot be imported, or does not take
    (images, labels, real)."""
    found, wanted = imported(setting, path), f"def {measure_name(path)}(images, labels, real)"
    if not callable(found) or isinstance(found, type):
        raise SettingsError(f"{setting}={path} is no function", nearest=wanted)
    try:
        inspect.signature(found).bind(None, None, None)
    except TypeError:
        raise SettingsError(
            f"{setting}={path} takes {inspect.signature(found)}, not images, labels and real images", nearest=wanted
        ) from None
    except ValueError:  # compiled functions have no signature
        pass
    return found


def check_measurable(
    setting: str, name: str, metrics: Metrics, *, points: bool, stacked: bool, classes: int | None, nearest: str
) -> None:
    """Raises SettingsError if a measure cannot be had with these metrics on data that are `points` or images, `stacked`
    or not, in so many classes, None if that is not known. `setting`: which names the measure; `nearest`: a value for it
    that can."""
    wrong, right = f"{setting}={name}", f"{setting}={nearest}"
    extractor = metrics.extractor
    if extractor == "auto" and (points or classes is not None):
        extractor = "pixels" if points or classes == 1 else "classifier"
    if name == "kid" and extractor in ("auto", "classifier", "pixels"):
        right = right if points else _INCEPTION
        raise SettingsError(f"{wrong}: its kernel is not made for metrics.extractor={extractor}", nearest=right)
    if name == "inception_score" and extractor == "pixels":
        kind = right if points else "metrics.extractor=classifier" if classes != 1 else _INCEPTION
        raise SettingsError(f"{wrong}: metrics.extractor={extractor} does not classify", nearest=kind)
    if name in OF_PAIRS and metrics.statistics is not None:
        raise SettingsError(
            f"{wrong} compares with single real images, metrics.statistics={metrics.statistics} has none",
            nearest="metrics.statistics=null",
        )
    if name in _OF_STACKS and stacked:
        if extractor != "classifier":
            raise SettingsError(
                f"{wrong}: metrics.extractor={extractor} does not name the mode", "metrics.extractor=classifier"
            )
    elif name in _OF_STACKS - _OF_MIXTURES:
        raise SettingsError(f"{wrong} is of stacked images", nearest="data.name=stacked_digits")
    elif name in _OF_MIXTURES and not points:
        raise SettingsError(f"{wrong} is of mixtures, the data are images", nearest=right)
    for key in ("samples", "reference_samples"):
        count, fewest = getattr(metrics, key), FEWEST.get(name, 2)
        if count is not None and count < fewest and (key == "samples" or name in OF_PAIRS):
            raise SettingsError(f"{wrong} takes more than metrics.{key}={count}", nearest=f"metrics.{key}={fewest}")


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


FETCHED = ("inception-v3", "dinov2")
"""Extractors with published weights."""
EXTRACTORS = ("auto", "classifier", "pixels", *FETCHED)


class Metrics(Settings):
    """How samples are measured."""

    extractor: str = "auto"
    """What turns images into features; auto: classifier for labelled images, else pixels."""
    samples: Annotated[int, Field(ge=2)] | None = None
    """Generated samples per evaluation; null: as many as the reference statistics are of, at most 10,000."""
    reference_samples: Annotated[int, Field(ge=2)] | None = None
    """Real images in the reference statistics, chosen by a fixed seed; null: the whole train set."""
    statistics: Path | None = None
    """npz file of `mu` and `sigma`, in pytorch-fid's form, to use as reference statistics; null: the data's own."""
    weights: Path | None = None
    """File of the extractor's weights; null: a classifier is trained once and cached."""
    download: bool = False
    """Whether published weights may be downloaded, once: Inception's (91 MB), or DINOv2's (1.2 GB) with its code."""
    measures: Annotated[tuple[str, ...], BeforeValidator(_several)] = ()
    """Measures next to FID at each evaluation: kid, inception_score, precision, recall, density, coverage, or a
    function of your own, package.module:function. Several are a list, `[precision,recall]`. Those of modes are measured
    in any case, where the data have modes."""
    quantise: bool = True
    """Whether images are rounded to 256 levels before they are measured, as for published FIDs."""
    asynchronous: bool = Field(False, alias="async")
    """Whether a separate task evaluates a copy of the generator while training goes on."""

    @field_validator("extractor")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in EXTRACTORS and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name):
            raise SettingsError(unknown("metrics.extractor", name, [*EXTRACTORS, "package.module:Class"]))
        return name

    @field_validator("measures")
    @classmethod
    def _are_measures(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            check_name("metrics.measures", name, [one for one in MEASURES if one != "fid"])
        found = {measure_name(name): name for name in names}
        for name in names:
            if found[measure_name(name)] != name:
                raise SettingsError(
                    f"metrics.measures has {name} and {found[measure_name(name)]}, both logged as {measure_name(name)}",
                    nearest="another name for one of the functions",
                )
        return tuple(found.values())

    @field_validator("weights", "statistics")
    @classmethod
    def _absolute(cls, file: Path | None) -> Path | None:
        return None if file is None else expanded(file).absolute()

    @model_validator(mode="after")
    def _apply(self) -> Metrics:
        if self.weights is not None and self.extractor == "pixels":
            raise SettingsError(
                "metrics.weights has no meaning for metrics.extractor=pixels", nearest="metrics.extractor=classifier"
            )
        if self.download and self.extractor not in FETCHED:
            raise SettingsError(
                f"metrics.download has no meaning for metrics.extractor={self.extractor}",
                nearest="metrics.extractor=inception-v3",
            )
        if self.extractor == "inception-v3" and self.weights is None and not self.download:
            raise SettingsError(
                "metrics.extractor=inception-v3 needs its weights",
                nearest="metrics.download=true (91 MB, once),"
                " or metrics.weights=FILE of weights-inception-2015-12-05-6726825d.pth",
            )
        if self.statistics is not None and self.reference_samples is not None:
            raise SettingsError(
                "metrics.reference_samples has no meaning with metrics.statistics, which has no images",
                nearest="metrics.reference_samples=null",
            )
        return self
