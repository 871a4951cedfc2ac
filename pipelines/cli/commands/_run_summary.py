"""What the folder of a run or search says of it, in a line or compared with others. Imports neither torch nor Ray."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gan_core.measures import FID, Objective
from gan_core.settings import SettingsError, by_path, parse_yaml
from pipelines.console import number
from pipelines.runs import RunFolder, import_own_code
from pipelines.search.progress import progress
from pipelines.settings import SearchExperiment, TrainExperiment, as_settings_error, labels

NOT_COMPARED = ("name", "storage", "tracking")
"""Settings that say where a run is kept, not what it is."""

_HEADINGS = ("name", "family", "state", "FID", "objective", "steps", "last written")
_UNITS = (("days", 86400), ("h", 3600), ("min", 60), ("s", 1))


@dataclass(frozen=True)
class RunSummary:
    """A run or search."""

    name: str
    kind: str
    """run or search."""
    families: tuple[str, ...]
    state: str
    """running, completed, unfinished, or damaged: its settings cannot be read."""
    fid: float | None
    """The lowest of a run; of a search that of its winner."""
    objective: Objective
    """Of a search; a run has FID."""
    value: float | None
    """Of the objective; FID of a run."""
    done: int
    """Rounds of a run, trials of a search."""
    of: int | None
    written: float
    """When it last wrote something, in seconds since 1970."""
    where: str
    settings: Mapping[str, Any]
    """As they run, by their paths."""
    measures: Mapping[str, float]
    """The last row that has a FID."""

    @property
    def cells(self) -> dict[str, str]:
        """The line of the table by its headings. A search's own objective is there if that is not FID."""
        unit = " trials" if self.kind == "search" else ""
        done = f"{self.done}/{'?' if self.of is None else self.of}{unit}"
        objective = {} if self.objective.is_fid else {"objective": f"{self.objective.label} {number(self.value)}"}
        about = {"family": ", ".join(self.families) or "-", "state": self.state, "FID": number(self.fid)}
        return {"name": self.name, **about, **objective, "steps": done, "last written": self.age}

    @property
    def age(self) -> str:
        """How long ago it last wrote something."""
        seconds = max(time.time() - self.written, 1.0)
        unit, size = next((unit, size) for unit, size in _UNITS if seconds >= size)
        return f"{seconds // size:.0f} {unit} ago"

    def to_json(self) -> dict[str, Any]:
        """What a program may want to know."""
        about = {"name": self.name, "kind": self.kind, "families": list(self.families), "state": self.state}
        best = {} if self.objective.is_fid else {"metric": self.objective.name, "value": self.value}
        found = {
            "fid": self.fid,
            **best,
            "done": self.done,
            "of": self.of,
            "written": self.written,
            "where": self.where,
        }
        return {**about, **found, "settings": dict(self.settings), "measures": dict(self.measures)}


def summary_of(folder: RunFolder) -> RunSummary:
    """Reads a run or search that exists. Raises SettingsError if its store does not answer."""
    with as_settings_error(f"storage.path={folder.home}"):
        for file in (folder.metrics, folder.times):
            folder.refresh_file(file)
        about = folder.path.name, "search" if folder.of_search else "run"
        try:
            values = parse_yaml(folder.experiment.read_text())
            import_own_code(folder)
            read = _of_search if folder.of_search else _of_run
            families, state, fid, objective, value, done, of, measures = read(folder)
        except (SettingsError, ValueError, KeyError, TypeError):
            values, families, state, done, of, measures = {}, (), "damaged", 0, None, {}
            fid, objective, value = None, FID, None
        if folder.driven():
            state = "running"
        settings = _flat(values)
        when, where = folder.written_at(), folder.where
        return RunSummary(*about, families, state, fid, objective, value, done, of, when, where, settings, measures)


_Read = tuple[tuple[str, ...], str, float | None, Objective, float | None, int, int | None, dict[str, float]]


def _of_run(folder: RunFolder) -> _Read:
    experiment = TrainExperiment.from_yaml(folder.experiment.read_text())
    rows = folder.rows()
    step, seen = (int(rows[-1]["step"]), int(rows[-1]["images_seen"])) if rows else (0, 0)
    budget = experiment.budget
    last = budget.rounds if budget.images is None else budget.last_round(seen // step) if step else None
    measured = [row for row in rows if math.isfinite(row.get("fid", math.nan))]
    fid = min((row["fid"] for row in measured), default=None)
    state = "completed" if last is not None and step >= last else "unfinished"
    measures = {name: value for name, value in measured[-1].items() if name != "step"} if measured else {}
    return (experiment.family.name,), state, fid, FID, fid, step, last, measures


def _of_search(folder: RunFolder) -> _Read:
    experiment = SearchExperiment.from_yaml(folder.experiment.read_text())
    found = progress(experiment, folder)
    families = tuple(experiment.entries)
    state = "completed" if found.completed else "unfinished"
    return families, state, found.fid, experiment.objective, found.value, found.ended, found.trials, {}


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a tree by their paths. A list is one value, but for the families of a search."""
    families = values.get("families")
    if isinstance(families, list):
        fields = {
            label: {key: field for key, field in one.items() if key != "name"}
            for label, one in zip(labels(families), families, strict=True)
        }
        values = {**values, "families": fields}
    return {path: value for path, value in by_path(values).items() if value != {}}


def listed(summaries: Sequence[RunSummary]) -> list[str]:
    """The lines of a table of runs and searches."""
    headings = _headings(summaries)
    return _table([headings, *([one.cells.get(heading, "-") for heading in headings] for one in summaries)])


def _headings(summaries: Sequence[RunSummary]) -> list[str]:
    """`objective` is among them if a search has another one than FID."""
    known = {heading for one in summaries for heading in one.cells} | set(_HEADINGS) - {"objective"}
    return [heading for heading in _HEADINGS if heading in known]


def differences(summaries: Sequence[RunSummary]) -> dict[str, list[Any]]:
    """The settings that are not the same in all, by their paths."""
    names = list(dict.fromkeys(name for one in summaries for name in one.settings))
    found = {name: [one.settings.get(name) for one in summaries] for name in names}
    kept = {name: values for name, values in found.items() if name.partition(".")[0] not in NOT_COMPARED}
    return {name: values for name, values in kept.items() if any(value != values[0] for value in values)}


def compared(summaries: Sequence[RunSummary]) -> list[str]:
    """The lines of a table with a column for each: the settings that differ, then what was measured."""
    rows = [("", *(one.name for one in summaries))]
    rows += [(name, *map(_shown, values)) for name, values in differences(summaries).items()]
    for heading in _headings(summaries)[1:]:
        rows.append((heading, *(one.cells.get(heading, "-") for one in summaries)))
    names = dict.fromkeys(name for one in summaries for name in one.measures)
    for name in names:
        title = "FID, last" if name == "fid" else name
        rows.append((title, *(number(one.measures.get(name)) for one in summaries)))
    return _table(rows)


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
