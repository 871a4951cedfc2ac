"""`ganfleet train --from-search NAME`: the best settings of a search, from its folder or from MLflow's registry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from gan_core.files import cache_folder
from gan_core.settings import SettingsError, nearest, parse_yaml
from pipelines.runs import RunFolder, find_run, run_folder, run_names
from pipelines.settings import CommonSettings

_PLACES = ("storage.path=", "storage.endpoint_url=", "tracking.uri=")
"""Settings that say where to look for the search."""


def best_settings(
    name: str, families: Sequence[str], assignments: Sequence[str], config: Path | None, resume: str | None
) -> tuple[str, list[str], dict[str, str]]:
    """The YAML of a search's best settings, what the command line changes in them, and tags that name their trial.

    Arguments after the name are those of the command line. Raises SettingsError.
    """
    right = f"ganfleet train --from-search {name}"
    if resume is not None:
        raise SettingsError(
            f"--from-search {name} begins a run, --resume {resume} goes on with one",
            nearest=f"ganfleet train --resume {resume}",
        )
    if config is not None:
        raise SettingsError(f"--from-search {name} and --config {config} both give settings", nearest=right)
    if families:
        raise SettingsError(f"--from-search {name} knows its family", nearest=f"leave out '{families[0]}': {right}")
    given = [word for word in assignments if word.startswith(_PLACES)]
    common = CommonSettings().override(*given)
    text, tags, found_in = _settings(name, common)
    values = parse_yaml(text)
    values |= {"name": None, "storage": {**(values.get("storage") or {}), "path": found_in}}
    if common.tracking.uri is not None:
        values["tracking"] = {"uri": common.tracking.uri}
    changes = [word for word in assignments if word not in given or word.startswith("storage.endpoint_url=")]
    return yaml.safe_dump(values), changes, tags


def _settings(name: str, common: CommonSettings) -> tuple[str, dict[str, str], str]:
    """The YAML of the best settings, tags that name their trial, and the storage path to train in."""
    storage = str(common.storage.path)
    folder = _find(name, common)
    if folder is None:
        return *_registered(name, common), storage
    if not folder.of_search:
        raise SettingsError(
            f"'{name}' is a training run", nearest=f"ganfleet train --resume {name}, or --from-search of a search"
        )
    if not folder.best.is_file():
        raise SettingsError(
            f"the search '{name}' has no best trial yet",
            nearest=f"ganfleet search --resume {name}{common.storage.command_suffix}",
        )
    trial = json.loads(folder.best.with_suffix(".json").read_text())["trial"]
    inside = folder.home == common.storage.location
    tags = {"ganfleet.search": folder.path.name, "ganfleet.trial": trial}
    return folder.best.read_text(), tags, storage if inside else folder.home


def _find(name: str, common: CommonSettings) -> RunFolder | None:
    try:
        return find_run(name, common.storage)
    except SettingsError:
        if common.storage.remote:
            run_names(common.storage)  # raises the error again if the store does not answer
        return None


def _registered(name: str, common: CommonSettings) -> tuple[str, dict[str, str]]:
    """The YAML and the tags, from the model registry. MLflow is imported only if there is a tracking store to ask."""
    folders = _search_names(common)
    if not _can_be_a_name(name):  # a model has the name of its search
        raise _unknown(name, folders, common)
    if common.tracking.uri is None and not (common.storage.folder / "mlflow.db").is_file():
        raise _unknown(name, folders, common)
    cache_folder()  # MLflow cannot even be imported where there is no home folder
    from infra.mlflow.registry import NoRegistryError, check_answers, model_names, newest_version, read_text

    uri = common.tracking_uri
    try:
        check_answers(uri)
        found = newest_version(uri, name)
        if found is None:
            raise _unknown(name, {*folders, *model_names(uri)}, common)
        if "ganfleet.search" not in found.tags:
            raise SettingsError(f"the model '{name}' in {uri} is of no search", nearest=_nearest_search(name, folders))
        text = read_text(uri, found, "experiment.yaml")
    except NoRegistryError as error:
        raise SettingsError(f"no search named '{name}' in {common.storage.location}, and {error}") from None
    return text, {tag: found.tags[tag] for tag in ("ganfleet.search", "ganfleet.trial")}


def _can_be_a_name(name: str) -> bool:
    try:
        CommonSettings.load({"name": name})
    except SettingsError:
        return False
    return True


def _search_names(common: CommonSettings) -> list[str]:
    folders = [run_folder(common.storage, name) for name in run_names(common.storage)]
    return [folder.path.name for folder in folders if folder.exists() and folder.of_search]


def _nearest_search(name: str, known: Sequence[str] | set[str]) -> str:
    return nearest(name, known) if known else "none, there is no search yet"


def _unknown(name: str, known: Sequence[str] | set[str], common: CommonSettings) -> SettingsError:
    return SettingsError(f"no search named '{name}' in {common.storage.location}", nearest=_nearest_search(name, known))
