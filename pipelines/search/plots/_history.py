"""What a search's folder tells of each trial's course: its evaluations, in the order in which they were made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.runs import RunPaths
from pipelines.search._outcome import Outcome


@dataclass(frozen=True)
class Moment:
    """An evaluation, or the end of what was played after the last one."""

    trial: Outcome
    images: int
    """Real images seen since the trial's moment before."""
    fid: float | None
    at: float
    """When, by the clock of the file system."""


@dataclass(frozen=True)
class Point:
    """An evaluation beside what the whole search had spent by then."""

    trial: Outcome
    images: int
    """Real images that all trials together had seen."""
    fid: float


def points(folder: RunPaths, outcomes: Sequence[Outcome]) -> list[Point]:
    """Every evaluation of a search, in order of time; what was played without one counts too."""
    moments = sorted(
        (moment for one in outcomes for moment in _moments(folder.trial(one.trial), one)), key=lambda moment: moment.at
    )
    spent, found = 0, []
    for moment in moments:
        spent += moment.images
        if moment.fid is not None:
            found.append(Point(moment.trial, spent, moment.fid))
    return found


def best_so_far(points: Sequence[Point]) -> list[Point]:
    """The evaluations that were better than all before them. A trial that failed is never the best."""
    found: list[Point] = []
    for point in points:
        if point.trial.state != "failed" and (not found or point.fid < found[-1].fid):
            found.append(point)
    return found


def _moments(folder: RunPaths, trial: Outcome) -> Iterator[Moment]:
    """A trial's, in their order. An evaluation was made when its sample grid was written: a row has no time."""
    seen, at = 0, 0.0
    file = folder.path / "metrics.jsonl"
    if not file.is_file():
        return
    rows = folder.rows()
    for row in rows:
        if "fid" in row:
            at = max(at, _written(folder.picture(int(row["step"])), file))
            yield Moment(trial, max(int(row["images_seen"]) - seen, 0), row["fid"], at)
            seen = int(row["images_seen"])
    if rows and rows[-1]["images_seen"] > seen:
        yield Moment(trial, int(rows[-1]["images_seen"]) - seen, None, max(at, file.stat().st_mtime))


def _written(picture: Path, otherwise: Path) -> float:
    return (picture if picture.is_file() else otherwise).stat().st_mtime
