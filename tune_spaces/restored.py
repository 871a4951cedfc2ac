"""A search's trials, as many as are wanted now, and the same ones after its driver has died."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.search import ConcurrencyLimiter, SearchGenerator

from tune_spaces.searcher import FamilySearcher, Known


class Extensible(SearchGenerator):
    """Asks for `trials()` trials; when it is restored, it agrees with the trials that Tune restores beside it."""

    def __init__(self, searcher: FamilySearcher, max_concurrent: int, trials: Callable[[], int]) -> None:
        super().__init__(ConcurrencyLimiter(searcher, max_concurrent=max_concurrent))
        self._own, self._wanted = searcher, trials

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state({**state, "total_samples": self._wanted(), "finished": False})

    def restore_from_dir(self, dirpath: str) -> None:
        """Tune writes its trials and the searcher's state one after the other: a driver killed in between leaves two
        stories."""
        super().restore_from_dir(dirpath)
        known = _known_trials(Path(dirpath))
        if known is not None:
            self._own.agree(known)
            self._counter = len(known)


def _known_trials(folder: Path) -> dict[str, Known] | None:
    """The trials that Tune is about to restore, in the order in which they were made."""
    states = sorted(folder.glob("experiment_state-*.json"))
    if not states:
        return None
    found = {}
    for state, metadata in json.loads(states[-1].read_text())["trial_data"]:
        trial = Trial.from_json_state(state, stub=True)
        trial.restore_run_metadata(metadata)
        ended, failed = trial.status in (Trial.TERMINATED, Trial.ERROR), trial.status == Trial.ERROR
        found[trial.trial_id] = Known(trial.config["settings"], ended, failed, dict(trial.run_metadata.last_result))
    return found
