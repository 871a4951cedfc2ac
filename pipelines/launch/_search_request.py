"""What a command line of `search` requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gan_core.family import Family, build_family
from gan_core.settings import SettingsError, assign, parse_settings, paths
from pipelines.launch._request import CommandLine, Request, check_family_names, request_of
from pipelines.launch._resume import resumed_search
from pipelines.launch._shipped import check_shipped, import_shipped
from pipelines.settings import (
    SearchExperiment,
    assign_space,
    check_files,
    check_functions,
    check_paths,
    check_tracking,
    labels,
    with_data_set,
)
from tune_spaces.domains import BATCH_SIZE


def search_request(line: CommandLine) -> Request[SearchExperiment]:
    """Raises SettingsError that names everything that is wrong with the line."""
    if line.from_search is not None:
        raise SettingsError(
            f"--from-search {line.from_search} trains its best settings",
            nearest=f"train --from-search {line.from_search}, or search --resume {line.from_search}",
        )
    if line.init_from is not None:
        raise SettingsError(
            f"--init-from {line.init_from} begins a training run", nearest=f"train --init-from {line.init_from}"
        )
    return request_of(line, resumed_search, search_experiment)


def search_experiment(
    families: Sequence[str | Family], assignments: Sequence[str], config: str = ""
) -> SearchExperiment:
    """The search that a command line asks for; `family.x=` fixes x for each family that has it. Raises SettingsError.

    `config` is the text of its YAML file: of a search, or of one run, whose family is then the one that is searched and
    whose hyper-parameters are where the search begins. Its `data_sets` are settings for when the data are those. What
    is typed wins over the file: `space.x` over a fixed x, and `family.x` over the domain of x.
    """
    values = with_data_set(parse_settings(config), assignments)
    import_shipped(values, assignments)
    check_family_names(families, lambda known: search_experiment(known, assignments, config))
    given, of_run = _family_of(values)
    if families:
        values["families"] = list(families)
    elif of_run is not None and "families" not in values:
        values["families"] = [of_run.name]
    if not values.get("families"):
        raise SettingsError("search needs a family or several, e.g. `ganfleet search wgan wgan_gp`")
    listed = values["families"] if isinstance(values["families"], list) else [values["families"]]
    built = [build_family(family) for family in listed]
    family_paths = [f"family.{field}" for family in built for field in type(family).model_fields]
    shared_paths = [path for path in paths(SearchExperiment) if not path.startswith(("families", "fixed", "space"))]
    known = shared_paths + family_paths
    of_family = [word for word in assignments if word.startswith("family.")]
    of_space = [word for word in assignments if word.partition("=")[0].split(".")[0] == "space"]
    assign(values, [word for word in assignments if word not in of_family and word not in of_space], known)
    typed = assign({}, of_family, known).get("family", {})
    if "name" in typed:
        raise SettingsError(f"family.name={typed['name']}: families are named as words", nearest=typed["name"])
    batch = [word for word in assignments if word.startswith(f"{BATCH_SIZE}=")]
    searched = assign_space(values, of_space, replaced=[*typed, *([BATCH_SIZE] if batch else [])])
    if batch and BATCH_SIZE in searched:
        raise SettingsError(
            f"space.{BATCH_SIZE} is searched and {batch[-1]} fixes it", nearest=f"leave out {BATCH_SIZE}"
        )
    if of_run is not None:
        of_any = {field for family in built for field in type(family).model_fields}
        given = {field: value for field, value in given.items() if field in of_any}
    with_fields = _with_fields(built, {**given, **typed})
    called = labels([build_family(family).model_dump() for family in with_fields])
    in_file = {f"{label}.{field}" for label, one in zip(called, built, strict=True) for field in one.model_fields_set}
    in_file |= set(given) if of_run is None else set()
    values["families"] = with_fields
    values["fixed"] = sorted({*typed, *_without(in_file, searched, dict(zip(called, built, strict=True)))})
    experiment = SearchExperiment.load(values)
    check_files(experiment.metrics)
    check_functions(experiment.metrics, experiment.search.metric)
    check_tracking(experiment)
    check_paths(experiment)
    check_shipped(experiment)
    return experiment


def _without(fixed: set[str], searched: Sequence[str], built: Mapping[str, Family]) -> set[str]:
    """What a file fixes, without the fields whose domains are typed: `lr` in all families, `wgan.lr` in one. What it
    fixes in one of several families stays so if the domain is for all of them. `built`: the families by label."""
    for key in searched:
        name, _, field = key.rpartition(".")
        own = {f"{label}.{field}" for label, one in built.items() if field in type(one).model_fields}
        named = {f"{label}.{field}" for label, one in built.items() if name in (label, one.name)}
        if name and field in fixed:
            fixed = (fixed - {field}) | own
        fixed = fixed - {key} - named - (own if not name and own <= fixed else set())
    return fixed


def _family_of(values: dict[str, Any]) -> tuple[dict[str, Any], Family | None]:
    """Takes `family` out of a file's values: its fields, and the family itself if the file is of one run."""
    given = values.pop("family", None) or {}
    if isinstance(given, str):
        given = {"name": given}
    if isinstance(given, list):
        raise SettingsError(f"family={given} in a search's file", nearest=f"families: [{', '.join(map(str, given))}]")
    if not isinstance(given, dict):
        raise SettingsError(f"family={given} is no family", nearest="family: wgan_gp")
    of_run = build_family(given) if "name" in given and "families" not in values else None
    return {key: value for key, value in given.items() if key != "name"}, of_run


def _with_fields(built: Sequence[Family], fields: dict[str, Any]) -> list[dict[str, Any]]:
    """The families' settings, each with those of the given fields that it has, and that change something there.

    Raises SettingsError for a field that no family has, or that changes nothing in any of them.
    """
    for field in fields:
        if all(field not in type(family).model_fields for family in built):
            build_family({"name": built[0].name, field: fields[field]})  # it raises the error with the nearest field
    taken = [{key: value for key, value in fields.items() if key in type(family).model_fields} for family in built]
    unused = [_unused(family, own) for family, own in zip(built, taken, strict=True)]
    used = {key for own, left_out in zip(taken, unused, strict=True) for key in own.keys() - left_out}
    return [
        {**family.chosen(), **{key: own[key] for key in own if key not in left_out or key not in used}}
        for family, own, left_out in zip(built, taken, unused, strict=True)
    ]


def _unused(family: Family, fields: Mapping[str, Any]) -> set[str]:
    """Those of the fields that change nothing in the family with all the others."""
    doubtful = family.without_meaning().keys() & fields.keys()
    if not doubtful:
        return set()
    others = {key: value for key, value in fields.items() if key not in doubtful}
    return doubtful & build_family({**family.chosen(), **others}).without_meaning().keys()
