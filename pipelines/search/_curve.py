"""A search's own curve in MLflow: the best FID so far against the trials that have ended, with that one's samples."""

from __future__ import annotations

from collections.abc import Sequence

from infra.mlflow.tracker import MlflowTracker
from pipelines.runs import RunFolder
from pipelines.search._outcome import Outcome, best_of


class Curve:
    """Tells the search's run in MLflow. Its metric `fid` marks the steps that are recorded."""

    def __init__(self, uri: str, run_id: str, folder: RunFolder) -> None:
        self._uri, self._run_id, self._folder = uri, run_id, folder
        self._run: MlflowTracker | None = None
        self._shown = ""

    def tell(self, outcomes: Sequence[Outcome], images: int) -> None:
        """A point for the trials that have ended until now, and a picture if another one is best.

        Told again it is dropped. Raises one of `AWAY` if the store cannot be reached.
        """
        ended = [one for one in outcomes if one.ended]
        best = best_of(ended)
        if best is None or best.fid is None:
            return
        if self._run is None:
            self._run = MlflowTracker(self._uri, self._run_id, marker="fid")
        if len(ended) <= self._run.last_step:
            return
        picture = self._folder.trial(best.trial).picture(best.step)
        if best.trial != self._shown and picture.is_file():
            self._run.picture(len(ended), picture.read_bytes())
        self._run.metrics(len(ended), {"fid": best.fid, "search/images": images})
        self._shown = best.trial
