"""`search` and `space`: how hyper-parameters are searched, over which domains, and which settings are tried first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_serializer, model_validator

from gan_core.experiment import Data
from gan_core.family import Family, build_family
from gan_core.measures import MEASURES, Objective, check_name, measure_name
from gan_core.settings import Settings, SettingsError, nearest, nearest_key, parse_yaml
from pipelines.settings._compute import Compute
from tune_spaces.domains import BATCH_SIZE, Choice, Domain, RangeName, Space
from tune_spaces.engines import SamplerName, SchedulerName
from tune_spaces.expressions import parse_domain


def _auto(value: Any) -> Any:
    if value == "auto" or value is None:
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise SettingsError(
            f"search.max_concurrent={value!r} is not a whole number or 'auto'", nearest="search.max_concurrent=auto"
        ) from None
    if number < 1:
        raise SettingsError(
            f"search.max_concurrent={number} is out of range, at least 1", nearest="search.max_concurrent=1"
        )
    return number


class Search(Settings):
    """How hyper-parameters are searched, and by which measure trials are ranked."""

    metric: str = "fid"
    """The objective: fid, kid, inception_score, precision, recall, density, coverage, modes, high_quality, modes_kl, or
    a function of your own, package.module:function. It is measured at each evaluation, next to FID."""
    mode: Literal["auto", "min", "max"] = "auto"
    """Whether lower (min) or higher (max) is better; auto: as the measure has it, min for a function of your own."""
    sampler: SamplerName = "tpe"
    """What proposes settings: tpe, random, sobol (quasi-random) or gp (a Gaussian process for each family)."""
    scheduler: SchedulerName = "asha"
    """What stops trials early: asha, hyperband, median or none; pbt is population-based training (random or sobol)."""
    trials: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    """How many settings are tried."""
    hours: Annotated[float, Field(gt=0.0)] | None = None
    """Budget of all trials in wall-clock hours; when it is spent, each trial ends at its next evaluation. Confirmation
    follows it."""
    images: Annotated[int, Field(ge=1)] | None = None
    """Budget of all trials in real images seen; otherwise like `hours`."""
    max_concurrent: Annotated[int | None, BeforeValidator(_auto)] = None
    """How many trials run at once; null or auto: as many as the cluster has capacity for."""
    confirm: Annotated[int, Field(ge=0, le=1000)] = 3
    """How many of the best settings are trained again, with fresh seeds and the full budget; 0: none."""
    confirm_seeds: Annotated[int, Field(ge=1, le=1000)] = 3
    """How many fresh seeds each confirmed setting is trained with; the best mean wins."""
    compare: bool = False
    """Whether families are compared instead of competing: each has an equal share of the trials, is stopped early only
    against its own trials, and has `confirm` settings confirmed."""
    points: tuple[dict[str, Any], ...] = ()
    """Settings to try first, `[{family: wgan, lr: 1e-4, clip: 0.01}]`; with one family, its name may be left out."""

    @field_validator("metric")
    @classmethod
    def _is_a_measure(cls, name: str) -> str:
        check_name("search.metric", name)
        return name

    @model_validator(mode="after")
    def _mode_is_the_measures(self) -> Search:
        known = MEASURES.get(self.metric)
        if known is not None and self.mode not in ("auto", known.mode):
            better = "lower" if known.mode == "min" else "higher"
            raise SettingsError(
                f"search.mode={self.mode} contradicts search.metric={self.metric}, of which {better} is better",
                nearest=f"search.mode={known.mode}",
            )
        return self

    @property
    def objective(self) -> Objective:
        """The measure by which trials are ranked."""
        nature = MEASURES[self.metric].mode if self.metric in MEASURES else "min"
        return Objective(measure_name(self.metric), nature if self.mode == "auto" else self.mode)


class SearchSpace(Settings):
    """`wide`, or `{range: wide, lr: "loguniform(1e-5,1e-2)", wgan: {clip: "uniform(0.01,0.1)"}}`."""

    range: RangeName = "narrow"
    """Built-in domains: narrow (around the papers' settings) or wide (the ranges of "Are GANs Created Equal?");
    `space=wide` for short."""
    domains: dict[str, str] = Field(default_factory=dict)
    """The user's own domains, typed as `space.FIELD` for all families or `space.FAMILY.FIELD` for one:
    `'space.lr=loguniform(1e-5,1e-2)'`, `uniform(0.1,0.9)`, `randint(1,10)` (both ends), `choice(1,5)`. Of the other
    settings only the batch can be searched: `'space.data.batch_size=choice(32,64)'`."""

    @model_validator(mode="before")
    @classmethod
    def _from_words(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"range": value}
        if isinstance(value, SearchSpace) or (isinstance(value, dict) and "domains" in value):
            return value
        if not isinstance(value, dict):
            raise SettingsError(f"space={value} is neither a range nor domains by field", nearest="space=wide")
        flat = _flat({key: text for key, text in value.items() if key != "range"})
        return {**{key: value[key] for key in ("range",) if key in value}, "domains": flat}

    @model_serializer
    def _as_words(self) -> dict[str, str]:
        return {"range": self.range, **self.domains}


def labels(families: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a search calls its families, given their settings: by name, those of one name also by the values in which
    they differ, as `gan-minimax` and `gan-non_saturating`. Families that are alike have one label."""
    found = []
    for one in families:
        same = [other for other in families if other["name"] == one["name"]]
        differing = [field for field in one if any(other.get(field) != one[field] for other in same)]
        found.append("-".join([one["name"], *(str(one[field]) for field in differing)]))
    return found


def check_trials(search: Search, names: Sequence[str], spaces: Mapping[str, Space]) -> None:
    """Raises SettingsError if `search.trials` does not suit the families and points, or nothing is left to search."""
    trials, families, points = search.trials, len(names), len(search.points)
    for name in {name for name in names if names.count(name) > 1}:
        raise SettingsError(f"family {name} is named twice", nearest=" ".join(dict.fromkeys(names)))
    if points > trials:
        raise SettingsError(
            f"search.points has {points} points for search.trials={trials}", nearest=f"search.trials={points}"
        )
    for name in names:
        own = sum(point.get("family", point.get("name", names[0])) == name for point in search.points)
        if search.compare and own * families > trials:
            raise SettingsError(
                f"search.points has {own} points of {name}, whose share of search.trials={trials} is"
                f" {trials // families}",
                nearest=f"search.trials={own * families}",
            )
    if not any(spaces.values()) and trials > max(families, points):
        raise SettingsError(
            f"nothing is left to search, and search.trials={trials} would all be alike",
            nearest=f"ganfleet train {names[0]}",
        )
    if search.compare and trials % families:
        right = -(-trials // families) * families
        raise SettingsError(
            f"search.compare=true gives each of {families} families as many trials, search.trials={trials} cannot be"
            " shared equally",
            nearest=f"search.trials={right}",
        )
    if search.scheduler == "pbt" and trials < 2 * families:
        raise SettingsError(
            f"search.scheduler=pbt needs two trials or more of each family to learn from one another,"
            f" search.trials={trials} are too few",
            nearest=f"search.trials={4 * families}",
        )


def assign_space(values: dict[str, Any], assignments: Sequence[str], replaced: Sequence[str] = ()) -> list[str]:
    """Puts `space=wide` and `space.lr=...` into a search's values, where they replace what its file says. `replaced`:
    fields whose domains in the file do not count. Returns the keys of the domains that the assignments give."""
    given = values.get("space") or {}
    space: dict[str, Any] = {"range": given} if isinstance(given, str) else _flat(given)
    space = {key: text for key, text in space.items() if key not in replaced and key.rpartition(".")[2] not in replaced}
    typed: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise SettingsError(f"'{assignment}' is not key=value", nearest="space=wide")
        if path == "space" and text.startswith("{"):
            typed |= _flat(parse_yaml(f"value: {text}")["value"])
        else:
            typed["range" if path == "space" else path.removeprefix("space.")] = text
    if given or typed:
        values["space"] = space | typed
    return [key for key in typed if key != "range"]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"space={value} is neither a range nor domains by field", nearest="space=wide")
    found: dict[str, Any] = {}
    for key, one in value.items():
        found |= _flat(one, f"{prefix}{key}.") if isinstance(one, dict) else {f"{prefix}{key}": str(one)}
    return found


def searched_fields(space: SearchSpace, families: Mapping[str, Family], fixed: Sequence[str]) -> Mapping[str, Space]:
    """The user's own domains, by family and field. `families`: by label. Raises SettingsError."""
    found: dict[str, dict[str, Domain]] = {label: {} for label in families}
    for key, text in sorted(space.domains.items(), key=lambda item: item[0].count(".")):  # lr, then wgan.lr, which wins
        if key == BATCH_SIZE:
            domain = parse_domain(f"space.{key}", text, Data, "batch_size")
            for own in found.values():
                own[BATCH_SIZE] = domain
            continue
        for label, field in _owners(key, families, fixed):
            found[label][field] = parse_domain(f"space.{key}", text, type(families[label]), field)
    return found


def _owners(key: str, families: Mapping[str, Family], fixed: Sequence[str]) -> list[tuple[str, str]]:
    """The labels of the families whose field a domain's key names, with the field's name."""
    name, _, field = key.rpartition(".")
    named = {label: family for label, family in families.items() if name in ("", family.name, label)}
    owners = {label: family for label, family in named.items() if field in type(family).model_fields}
    if not owners:
        known = [f"space.{field}" for family in named.values() for field in type(family).model_fields]
        known += [
            f"space.{one}.{field}" for one, family in families.items() for field in type(family).model_fields if name
        ]
        right = nearest_key(f"space.{key}", [*known, "space.range", f"space.{BATCH_SIZE}"])
        raise SettingsError(f"unknown setting 'space.{key}'", nearest=right)
    free = [label for label in owners if not {field, f"{label}.{field}"} & set(fixed)]
    if not free:
        raise SettingsError(
            f"space.{key} is searched and family.{field}={getattr(next(iter(owners.values())), field)} fixes it",
            nearest=f"leave out family.{field}",
        )
    return [(label, field) for label in free]


def check_batches(domain: Domain, compute: Compute, micro_batch: int | None) -> None:
    """Raises SettingsError if a searched batch cannot be shared equally by the workers, or cut into micro-batches."""
    common = math.lcm(compute.workers, micro_batch or 1)
    if common == 1 or (isinstance(domain, Choice) and not any(value % common for value in domain.values)):
        return
    low, high = int(domain.ends[0]), int(domain.ends[-1])
    fitting = [common * 2**power for power in range(20) if low <= common * 2**power <= high] or [common, 2 * common]
    parts = f"compute.workers={compute.workers}" if micro_batch is None else f"data.micro_batch={micro_batch}"
    raise SettingsError(
        f"space.{BATCH_SIZE}={domain.expression} has sizes that {parts} does not divide",
        nearest=f"space.{BATCH_SIZE}={Choice(tuple(fitting)).expression}",
    )


def corners(family: Family, space: Space) -> list[Family]:
    """The family with settings from the ends of its space, and with each value of a choice alone."""
    space = {name: domain for name, domain in space.items() if name != BATCH_SIZE}
    ends = [{name: domain.ends[end] for name, domain in space.items()} for end in (0, -1)]
    alone = [{name: value} for name, domain in space.items() if isinstance(domain, Choice) for value in domain.values]
    return [build_family({**family.chosen(), **corner}) for corner in [*ends, *alone]]


def built_points(
    points: Sequence[Mapping[str, Any]],
    families: Mapping[str, Family],
    spaces: Mapping[str, Space],
    fixed: Sequence[str],
    data: Data,
) -> list[dict[str, Any]]:
    """Points as settings of trials, `{"name": family, field: value}`. A searched field that a point leaves out has the
    value of the family, or of `data`. Raises SettingsError."""
    names, built = list(families), []
    for index, point in enumerate(points):
        setting = f"search.points[{index}]"
        given = {key: value for key, value in point.items() if key not in ("family", "name")}
        name = str(point.get("family", point.get("name", names[0] if len(names) == 1 else "")))
        if name not in names:
            right = f"family: {nearest(name, names)}"
            raise SettingsError(f"{setting}: family '{name}' is none of the search's", nearest=right)
        base = families[name]
        for key in [str(key) for key, value in given.items() if ":" in str(key) and value is None]:
            raise SettingsError(f"{setting}: '{key}' lacks a space", nearest=key.replace(":", ": "))
        for field in given.keys() & type(base).model_fields.keys():
            if {field, f"{name}.{field}"} & set(fixed):
                raise SettingsError(
                    f"{setting}: {field} is fixed by family.{field}={getattr(base, field)}",
                    nearest="leave it out of the point",
                )
        fields = [*spaces[name], *(field for field in given if field not in spaces[name])]
        batch = {"batch_size": given.pop(BATCH_SIZE, data.batch_size)}
        try:
            family = build_family({**base.chosen(), **given})
            values = {**dict(family), BATCH_SIZE: Data.load(batch, prefix="data.").batch_size}
        except SettingsError as error:
            raise SettingsError(f"{setting}: {error}") from None
        built.append({"name": name, **{field: values[field] for field in fields}})
    return built
