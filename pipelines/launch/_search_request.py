"""What a command line of `search` requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gan_core.family import Family, build_family
from gan_core.settings import SettingsError, assign, parse_settings, paths
from pipelines.launch._request import CommandLine, Request, check_family_names, request_of
from pipelines.launch._resume import resumed_search
from pipelines.settings import SearchExperiment, assign_space, check_files, check_paths, check_tracking


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


def search_experiment(families: Sequence[str], assignments: Sequence[str], config: str = "") -> SearchExperiment:
    """The search that a command line asks for; `family.x=` fixes x for each family that has it. Raises SettingsError.

    `config` is the text of its YAML file.
    """
    values = parse_settings(config)
    check_family_names(families, lambda known: search_experiment(known, assignments, config))
    given = values.pop("family", None) or {}
    if not isinstance(given, dict):
        raise SettingsError(f"family={given} in a search's file", nearest=f"families: [{given}]")
    if families:
        values["families"] = list(families)
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
    assign_space(values, of_space)
    fields = assign({}, of_family, known).get("family", {})
    if "name" in fields:
        raise SettingsError(f"family.name={fields['name']}: families are named as words", nearest=fields["name"])
    fields = {**{key: value for key, value in given.items() if key != "name"}, **fields}
    fixed_in_one = [f"{family.name}.{field}" for family in built for field in family.model_fields_set]
    values["families"] = _with_fields(built, fields)
    values["fixed"] = sorted({*fields, *fixed_in_one})
    experiment = SearchExperiment.load(values)
    check_files(experiment.metrics)
    check_tracking(experiment)
    check_paths(experiment)
    return experiment


def _with_fields(built: Sequence[Family], fields: dict[str, Any]) -> list[dict[str, Any]]:
    """The families' settings, each with those of the given fields that it has.

    Raises SettingsError for a field that no family has.
    """
    for field in fields:
        if all(field not in type(family).model_fields for family in built):
            build_family({"name": built[0].name, field: fields[field]})  # it raises the error with the nearest field
    return [
        {**family.chosen(), **{key: value for key, value in fields.items() if key in type(family).model_fields}}
        for family in built
    ]
