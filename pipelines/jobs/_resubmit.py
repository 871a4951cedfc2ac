"""The same submission again goes on with its run: what is changed with that, and the shell lines that do either."""

from __future__ import annotations

import shlex
from typing import Any

from gan_core.settings import SettingsError, parse_yaml
from pipelines.errors import IN_JOB
from pipelines.launch import SEARCH_MAY_CHANGE, TRAIN_MAY_CHANGE, CommandLine, Request, resumed_search, resumed_train
from pipelines.runs import RunFolder
from pipelines.settings import Storage, preset_names, read_config

_FILES = ("data.path", "metrics.weights", "metrics.statistics")
"""Settings that may be relative to this folder, which is not the job's."""
_IN_JOB = f"export {IN_JOB}=1\n"
_UNLESS_ABSENT = """\
else
    code=$?
    if [ "$code" != 2 ]; then
        echo "$said" >&2
        exit "$code"
    fi
"""


def gone_on(verb: str, line: CommandLine, request: Request[Any]) -> tuple[Request[Any], list[str]]:
    """The request, as a resumption if the run of that name has begun, and the settings that this changes.

    Raises SettingsError if the name is that of another game.
    """
    folder, resume = request.folder, resumed_train if verb == "train" else resumed_search
    if request.resumed:
        return request, [word for word in line.assignments if not word.startswith("storage.path=")]
    if not folder.exists():
        return request, []
    here = request.experiment.storage.assignments
    was, wanted = _leaves(resume(folder.path.name, here)[0]), _leaves(request.experiment)
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
                f" {_written(wanted.get(key))}; nearest: name={folder.free_name()}, or --resume {folder.path.name}"
            )
    return Request(experiment, folder, True), changes


def _leaves(experiment: Any) -> dict[str, object]:
    """The settings by dotted path, but for where the run lies."""
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
    return "null" if value is None else str(value)


def shell_lines(verb: str, line: CommandLine, request: Request[Any], changes: list[str]) -> str:
    """Lines for `sh` that go on with the run if it has begun, else begin it as it was typed; they end in `exec`. Where
    it cannot be known whether it has begun, they end with what keeps it from being known."""
    folder: RunFolder = request.folder
    changed = [word for word in changes if not word.startswith("storage.endpoint_url=")]
    resumption = ["ganfleet", verb, "--resume", folder.path.name, *changed, *request.experiment.storage.assignments]
    resumed = shlex.join(resumption)
    if line.resume is not None:
        return f"{_IN_JOB}exec {resumed}\n"
    settings, option = _settings(line)
    begun = shlex.join(["ganfleet", verb, *_typed(line, request)])
    if request.experiment.storage.remote:  # whether it has begun, S3 knows
        has_begun, unless = f"said=$({shlex.join([*resumption, '--dry-run'])} 2>&1 > /dev/null)", _UNLESS_ABSENT
    else:
        has_begun, unless = f"[ -e {shlex.quote(str(folder.identity))} ]", ""
    return f"{_IN_JOB}if {has_begun}; then\n    exec {resumed}\n{unless}fi\n{settings}exec {begun}{option}\n"


def _typed(line: CommandLine, request: Request[Any]) -> list[str]:
    """Families and settings with the run's name, and with paths that mean the same in any folder."""
    experiment, folder = request.experiment.model_dump(mode="json"), request.folder
    absolute = [
        f"{key}={experiment[section][name]}"
        for key in _FILES
        for section, name in [key.split(".")]
        if experiment[section][name] is not None and _is_given(line, section, name)
    ]
    replaced = tuple(f"{key}=" for key in ("name", "storage.path", *_FILES))
    kept = [word for word in line.assignments if not word.startswith(replaced)]
    storage = [word.partition("=")[2] for word in line.assignments if word.startswith("storage.path=")]
    place = Storage.load({"path": storage[-1]}).location if storage else folder.home
    words = [*line.families, *kept, *absolute, f"name={folder.path.name}", f"storage.path={place}"]
    return [*words, "--from-search", line.from_search] if line.from_search is not None else words


def _is_given(line: CommandLine, section: str, name: str) -> bool:
    if any(word.startswith(f"{section}.{name}=") for word in line.assignments):
        return True
    values = parse_yaml(read_config(line.config)).get(section)
    return isinstance(values, dict) and name in values


def _settings(line: CommandLine) -> tuple[str, str]:
    """Lines that write the settings' file, and the option that names it. A preset goes by its name; a file's text goes
    with the job, whatever becomes of the file meanwhile."""
    if line.config is None:
        return "", ""
    if str(line.config) in preset_names() and not line.config.is_file():
        return "", f" --config {line.config}"
    text, mark = read_config(line.config).rstrip("\n"), "SETTINGS"
    while mark in text:
        mark += "_"
    return f"settings=$(mktemp)\ncat >\"$settings\" <<'{mark}'\n{text}\n{mark}\n", ' --config "$settings"'
