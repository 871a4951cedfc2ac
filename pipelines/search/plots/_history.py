"""The evaluations of all trials of a search in the order of time, read from its folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.runs import RunPaths
from pipelines.search._outcome import Outcome


@dataclass(frozen=True)
class Moment:
    """An evaluation of a trial, or the last row that it logged after its last evaluation."""

    trial: Outcome
    images: int
    """Real images seen since the trial's previous moment."""
    fid: float | None
    at: float
    """The time of the sample grid's file, in seconds since the epoch."""


@dataclass(frozen=True)
class Point:
    """An evaluation, and the images that the whole search had seen by then."""

    trial: Outcome
    images: int
    """Real images that all trials together had seen."""
    fid: float


def points(folder: RunPaths, outcomes: Sequence[Outcome]) -> list[Point]:
    """All evaluations of a search in order of time. Images seen after a trial's last evaluation count too."""
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
    """The evaluations that were better than all earlier ones. A failed trial is never the best."""
    found: list[Point] = []
    for point in points:
        if point.trial.state != "failed" and (not found or point.fid < found[-1].fid):
            found.append(point)
    return found


def _moments(folder: RunPaths, trial: Outcome) -> Iterator[Moment]:
    """A trial's moments in order. Rows have no time, so an evaluation's time is that of its sample grid's file."""
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
