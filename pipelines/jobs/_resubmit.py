"""A submission that is repeated resumes its run: the settings it changes, and the shell lines that start or resume."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from gan_core.settings import SettingsError, parse_yaml
from infra.passwords import bare
from pipelines.launch import (
    IN_JOB,
    SEARCH_MAY_CHANGE,
    TRAIN_MAY_CHANGE,
    CommandLine,
    Request,
    as_found,
    resumed_search,
    resumed_train,
)
from pipelines.runs import RunFolder
from pipelines.settings import Storage, preset_names, read_config

_FILES = ("data.path", "metrics.weights", "metrics.statistics", "compute.ship")
"""Settings whose paths may be relative to the current folder. The job has another current folder."""
_IN_JOB = f"export {IN_JOB}=1\n"
_UNLESS_ABSENT = """\
else
    code=$?
    if [ "$code" != 2 ]; then
        echo "$said" >&2
        exit "$code"
    fi
"""


def as_resumption(verb: str, line: CommandLine, request: Request[Any]) -> tuple[Request[Any], list[str]]:
    """Turns the request into a resumption if a run of that name has started.

    Returns the request and the settings that the resumption changes. Raises SettingsError if the run differs in a
    setting that cannot change.
    """
    folder, resume = request.folder, resumed_train if verb == "train" else resumed_search
    if request.resumed:
        return request, [word for word in line.assignments if not word.startswith("storage.path=")]
    if not folder.exists() or request.made_up:
        return request, []
    here = request.experiment.storage.assignments
    before = resume(folder.path.name, here)[0]
    was, wanted = _leaves(before), _leaves(as_found(request.experiment, before.data))
    allowed = TRAIN_MAY_CHANGE if verb == "train" else SEARCH_MAY_CHANGE
    changes = [f"{key}={_written(wanted.get(key))}" for key in allowed if was.get(key) != wanted.get(key)]
    experiment, _ = resume(folder.path.name, [*here, *changes])
    after = _leaves(experiment)
    typed = {word.partition("=")[0] for word in line.assignments}
    if any(key.startswith("family.") for key in typed):
        typed.add("families")
    for key in sorted(after.keys() | wanted.keys(), key=lambda key: (key not in typed, key)):
        if after.get(key) != wanted.get(key):
            raise SettingsError(
                f"name={folder.path.name} exists in {folder.home} with {key}={_written(after.get(key))}, not"
                f" {_written(wanted.get(key))}",
                nearest=f"name={folder.free_name()}, or --resume {folder.path.name}",
            )
    return Request(experiment, folder, True), changes


def _leaves(experiment: Any) -> dict[str, object]:
    """The settings by dotted path, without the run's name and storage."""
    found: dict[str, object] = {}

    def walk(tree: dict[str, Any], prefix: str) -> None:
        for key, value in tree.items():
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")
            else:
                found[prefix + key] = value

    walk(experiment.model_dump(mode="json", exclude={"name", "storage"}), "")
    return found


def _written(value: object) -> str:
    return "null" if value is None else json.dumps(value) if isinstance(value, list) else str(value)


def shell_lines(verb: str, line: CommandLine, request: Request[Any], changes: list[str]) -> str:
    """Lines for `sh` that resume the run if it has started, and otherwise start it as it was typed; they end in `exec`.

    If S3 cannot say whether the run has started, they exit with the error and its exit code.
    """
    folder: RunFolder = request.folder
    changed = [word for word in changes if not word.startswith("storage.endpoint_url=")]
    resumption = ["ganfleet", verb, "--resume", folder.path.name, *changed, *request.experiment.storage.assignments]
    resume = shlex.join(resumption)
    if line.resume is not None:
        return f"{_IN_JOB}exec {resume}\n"
    settings, option = _settings(line)
    begin = shlex.join(["ganfleet", verb, *_typed(line, request)])
    if request.experiment.storage.remote:  # only S3 knows whether it has started
        started, unless = f"said=$({shlex.join([*resumption, '--dry-run'])} 2>&1 > /dev/null)", _UNLESS_ABSENT
    else:
        started, unless = f"[ -e {shlex.quote(str(folder.experiment))} ]", ""
    return f"{_IN_JOB}if {started}; then\n    exec {resume}\n{unless}fi\n{settings}exec {begin}{option}\n"


def _typed(line: CommandLine, request: Request[Any]) -> list[str]:
    """The families and settings of the command line, with the run's name and with absolute paths."""
    experiment, folder = request.experiment.model_dump(mode="json"), request.folder
    absolute = [
        f"{key}={_written(experiment[section][name])}"
        for key in _FILES
        for section, name in [key.split(".")]
        if experiment[section][name] is not None and _is_given(line, section, name)
    ]
    replaced = tuple(f"{key}=" for key in ("name", "storage.path", *_FILES))
    kept = [word for word in line.assignments if not word.startswith(replaced)]
    storage = [word.partition("=")[2] for word in line.assignments if word.startswith("storage.path=")]
    place = Storage.load({"path": storage[-1]}).location if storage else folder.home
    words = [*line.names, *kept, *absolute, f"name={folder.path.name}", f"storage.path={place}"]
    if line.from_search is not None:
        words += ["--from-search", line.from_search]
    if line.init_from is not None:
        here = Path(line.init_from)
        words += ["--init-from", str(here.absolute()) if here.exists() else line.init_from]
    return words


def _is_given(line: CommandLine, section: str, name: str) -> bool:
    if any(word.startswith(f"{section}.{name}=") for word in line.assignments):
        return True
    values = parse_yaml(read_config(line.config)).get(section)
    return isinstance(values, dict) and name in values


def _settings(line: CommandLine) -> tuple[str, str]:
    """Lines that write the config file, and the option that names it. A preset is passed by name. A file is passed as
    text, because it may have changed when the job starts, and without the passwords in its addresses."""
    if line.config is None:
        return "", ""
    if str(line.config) in preset_names() and not line.config.is_file():
        return "", f" --config {line.config}"
    text, mark = bare(read_config(line.config)).rstrip("\n"), "SETTINGS"
    while mark in text:
        mark += "_"
    return f"settings=$(mktemp)\ncat >\"$settings\" <<'{mark}'\n{text}\n{mark}\n", ' --config "$settings"'
