"""What a command line of `train` requests; `pipelines.launch._search_request` has the same for `search`."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml

from gan_core.family import Family, build_family, family_names, is_family_name
from gan_core.settings import SettingsError, assign, nearest_key, parse_settings, parse_yaml, paths, similar, unknown
from pipelines.launch._data import sized_as
from pipelines.launch._from_search import best_settings
from pipelines.launch._init_from import InitialWeights
from pipelines.launch._resume import resumed_train
from pipelines.launch._shipped import check_shipped, import_shipped
from pipelines.runs import RunFolder, run_folder
from pipelines.settings import (
    SearchExperiment,
    TrainExperiment,
    check_files,
    check_functions,
    check_paths,
    check_text,
    check_tracking,
    expand_shorthands,
    read_config,
    split_words,
    word_without_credentials,
)

Requested = TypeVar("Requested", TrainExperiment, SearchExperiment)


@dataclass(frozen=True)
class CommandLine:
    """A command line as the user typed it, or what a program asks for in its place."""

    families: Sequence[str | Family]
    """Names; a program may give a family with its fields."""
    assignments: list[str]
    config: Path | None = None
    resume: str | None = None
    from_search: str | None = None
    init_from: str | None = None

    @staticmethod
    def of(
        words: Sequence[str] | None,
        config: Path | None,
        resume: str | None,
        from_search: str | None = None,
        init_from: str | None = None,
    ) -> CommandLine:
        """Sorts the words: those with `=` are settings, the others are families. Passwords go to the environment."""
        families, assignments = split_words(words)
        for word in assignments:
            key, _, value = word.partition("=")
            check_text(key, value)
        assignments = [word_without_credentials(word) for word in expand_shorthands(assignments)]
        return CommandLine(families, assignments, config, resume, from_search, init_from)

    @property
    def names(self) -> list[str]:
        """The names of the families."""
        return [_name(family) for family in self.families]


@dataclass(frozen=True)
class Request(Generic[Requested]):
    """A run or search that passed all checks and has not started."""

    experiment: Requested
    folder: RunFolder
    resumed: bool
    origin: dict[str, str] = field(default_factory=dict)
    """Tags that say where the settings come from."""
    made_up: bool = False
    """Whether the name is not the user's, so that the run may get another one."""
    notes: tuple[str, ...] = ()
    """Lines that a user should read once: settings that follow from the data."""
    typed: str = field(default_factory=lambda: shlex.join(["ganfleet", *sys.argv[1:]]))
    """The command, as the run's log and MLflow show it."""

    def renamed(self, name: str) -> Request[Requested]:
        """The same request of a run with another name."""
        experiment = self.experiment.override(f"name={name}")
        return replace(self, experiment=experiment, folder=folder_of(experiment))


def train_request(line: CommandLine) -> Request[TrainExperiment]:
    """Raises SettingsError that names everything that is wrong with the line."""
    if line.init_from is None:
        return _train_request(line)
    if line.resume is not None:
        raise SettingsError(
            f"--init-from {line.init_from} begins a run, --resume {line.resume} continues one",
            nearest=f"ganfleet train --resume {line.resume}",
        )
    weights = InitialWeights.find(line.init_from, line.assignments, parse_yaml(read_config(line.config)))
    request = _train_request(line, weights.family)
    if weights.shape:
        request = replace(request, experiment=sized_as(request.experiment, weights.image_size))
    weights.check(request.experiment)
    return replace(request, origin={**request.origin, **weights.origin})


def _train_request(line: CommandLine, family: Mapping[str, Any] | None = None) -> Request[TrainExperiment]:
    """`family`: the settings of a line that names no family."""
    if line.from_search is not None:
        config, assignments, origin = best_settings(
            line.from_search, line.names, line.assignments, line.config, line.resume
        )
        return _new_request(train_experiment([], assignments, config), origin)

    def build(families: Sequence[str | Family], assignments: Sequence[str], config: str) -> TrainExperiment:
        if family is not None and not families and "family" not in parse_yaml(config):
            config = f"{config}\n{yaml.safe_dump({'family': dict(family)})}"
        return train_experiment(families, assignments, config)

    return request_of(line, resumed_train, build)


def request_of(
    line: CommandLine,
    resume: Callable[[str, Sequence[str]], tuple[Requested, RunFolder]],
    build: Callable[[Sequence[str | Family], Sequence[str], str], Requested],
) -> Request[Requested]:
    """Resumes the run that the line names, or builds the experiment of a new one. Raises SettingsError."""
    if line.resume is not None:
        if line.families:
            raise SettingsError(f"--resume {line.resume} knows its family", nearest=f"leave out '{line.names[0]}'")
        return Request(*resume(line.resume, line.assignments), True)
    return _new_request(build(line.families, line.assignments, read_config(line.config)), {})


def _new_request(experiment: Requested, origin: dict[str, str]) -> Request[Requested]:
    """The request of a new run. If it has no name, it gets one from its families and the time."""
    if experiment.name is not None:
        return Request(experiment, folder_of(experiment), False, origin)
    families = experiment.families if isinstance(experiment, SearchExperiment) else [experiment.family]
    stem = "-".join(re.split(r"[.:]", family.name)[-1] for family in families)
    named = experiment.override(f"name={stem}-{time.strftime('%m%d-%H%M%S')}")
    return Request(named, folder_of(named), False, origin, made_up=True)


def train_experiment(families: Sequence[str | Family], assignments: Sequence[str], config: str = "") -> TrainExperiment:
    """The training run that a command line asks for; `config` is the text of its YAML file. Raises SettingsError."""
    values = parse_settings(config)
    _check_of_no_search(assignments)
    import_shipped(values, assignments)
    check_family_names(families, lambda known: train_experiment(known, assignments, config))
    if len(families) > 1:
        raise SettingsError(f"train plays one family, not {len(families)}", nearest=f"train {_name(families[0])}")
    if families and isinstance(families[0], Family):
        values["family"] = families[0].chosen()
    elif families:
        given = values.get("family")
        of_this = isinstance(given, dict) and given.get("name") == families[0]  # a file may be about another family
        values["family"] = given if of_this else {"name": families[0]}
    if "family" not in values:
        raise SettingsError("train needs a family, e.g. `ganfleet train wgan_gp`")
    for key in values.keys() - TrainExperiment.model_fields.keys():
        _check_of_no_search([key])
        raise SettingsError(f"unknown setting '{key}'", nearest=nearest_key(key, TrainExperiment.model_fields))
    known = paths(TrainExperiment.load({"family": {"name": build_family(values["family"]).name}}))
    experiment = TrainExperiment.load(assign(values, assignments, known))
    check_files(experiment.metrics)
    check_functions(experiment.metrics)
    check_tracking(experiment)
    check_paths(experiment)
    check_shipped(experiment)
    return experiment


def _check_of_no_search(words: Sequence[str]) -> None:
    """Raises SettingsError for a setting that only a search has, and for `family`, which is typed as a word."""
    for word in words:
        key, _, value = word.partition("=")
        if key == "family":
            known = similar(value, family_names()) or "wgan_gp"
            raise SettingsError(f"'{word}': the family is a word of its own", nearest=f"ganfleet train {known}")
        section = key.partition(".")[0]
        if section in SearchExperiment.model_fields.keys() - TrainExperiment.model_fields.keys():
            raise SettingsError(f"'{key}' is a setting of a search", nearest="ganfleet search")


def _name(family: str | Family) -> str:
    return family if isinstance(family, str) else family.name


def check_family_names(families: Sequence[str | Family], build: Callable[[Sequence[str | Family]], object]) -> None:
    """Raises one SettingsError for every unknown family and for all other mistakes of the line.

    To find those, it calls `build` with the nearest known families.
    """
    names = family_names()
    wrong = [name for name in families if isinstance(name, str) and not is_family_name(name)]
    mistakes = [unknown("family", name, names) for name in wrong]
    if not mistakes:
        return
    meant = [similar(str(name), names) if name in wrong else name for name in families]
    try:
        if any(meant):
            build([name for name in meant if name is not None])
    except SettingsError as error:
        mistakes.append(str(error))
    raise SettingsError("; ".join(mistakes))


def folder_of(experiment: TrainExperiment | SearchExperiment) -> RunFolder:
    """The folder of a run that has a name."""
    assert experiment.name is not None
    return run_folder(experiment.storage, experiment.name)
