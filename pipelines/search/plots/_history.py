"""The evaluations of all trials of a search in the order of time, read from its folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite

from gan_core.measures import Objective
from pipelines.runs import RunPaths
from pipelines.search._outcome import Outcome


@dataclass(frozen=True)
class Point:
    """An evaluation, and the images that the whole search had seen by then."""

    trial: Outcome
    images: int
    """Real images that all trials together had seen."""
    value: float
    """Of the objective."""


def points(folder: RunPaths, outcomes: Sequence[Outcome], objective: Objective) -> list[Point]:
    """All evaluations of a search in order of time. Images seen after a trial's last evaluation count too."""
    moments = [(one, *moment) for one in outcomes for moment in _moments(folder.trial(one.trial), objective.name)]
    spent, found = 0, []
    for trial, _, images, value in sorted(moments, key=lambda moment: moment[1]):
        spent += images
        if value is not None:
            found.append(Point(trial, spent, value))
    return found


def best_so_far(points: Sequence[Point], objective: Objective) -> list[Point]:
    """The evaluations that were better than all earlier ones. A failed trial is never the best."""
    found: list[Point] = []
    for point in points:
        if point.trial.state != "failed" and (not found or objective.better(point.value, found[-1].value)):
            found.append(point)
    return found


def _moments(folder: RunPaths, measure: str) -> Iterator[tuple[float, int, float | None]]:
    """A trial's evaluations in order, and the last row that it logged after them, without a value: time in seconds
    since the epoch, real images since the previous one, value of the measure. Rows have no time, so that of the sample
    grid's file is used."""
    seen, at = 0, 0.0
    file = folder.path / "metrics.jsonl"
    if not file.is_file():
        return
    rows = folder.rows()
    for row in rows:
        if measure in row:
            picture = folder.picture(int(row["step"]))
            at = max(at, (picture if picture.is_file() else file).stat().st_mtime)
            yield at, max(int(row["images_seen"]) - seen, 0), row[measure] if isfinite(row[measure]) else None
            seen = int(row["images_seen"])
    if rows and rows[-1]["images_seen"] > seen:
        yield max(at, file.stat().st_mtime), int(rows[-1]["images_seen"]) - seen, None
