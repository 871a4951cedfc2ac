"""Where Ray Tune gets a search's trials from: first those that an earlier driver left unfinished, then the sampler's.

A sampler's state is not stored. It is asked and told again all that the journal says, in the same order: with its
seed it is then where it was.
"""

from __future__ import annotations

import copy
import logging
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler
from ray.tune.search import SearchAlgorithm, Searcher

from infra.ray_private import create_trial_from_spec, make_parser
from pipelines.runs import FullDiskError, Pointer, RunFolder, pointer_file
from pipelines.search._budget import SearchBudget
from pipelines.search._journal import BUDGET, EARLY, Journal, Record, scalars
from pipelines.search.trials.trainable import FAILED, FULL_DISK
from tune_spaces.engines import METRIC

_LOG = logging.getLogger(__name__)


class Suggestions(SearchAlgorithm):
    """The trials of these names in their order, `concurrent` at once; the searcher says what each plays."""

    def __init__(
        self,
        journal: Journal,
        searcher: Searcher,
        budget: SearchBudget,
        folder: RunFolder,
        names: Sequence[str],
        concurrent: int,
    ) -> None:
        self._searcher = searcher
        self._journal, self._spending, self._folder = journal, budget, folder
        self._names, self._concurrent = set(names), concurrent
        self._live: dict[str, TuneTrial] = {}
        self._parser = make_parser()
        self._strangers = _tell_again(searcher, journal.past)
        for record in list(journal.records.values()):
            goes_on = record.lost or (record.state == "stopped" and record.reason == BUDGET)
            if goes_on and not budget.spent():
                journal.reopen(record.trial)
        begun = [record for record in journal.records.values() if record.trial in self._names]
        self._unfinished = deque(record for record in begun if not record.ended)
        self._fresh = deque(name for name in names if name not in journal.records)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its tuner; nobody reads it."""
        return {}

    @property
    def metric(self) -> str:
        return METRIC

    @property
    def total_samples(self) -> int:
        return len(self._names)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict, **spec: Any) -> bool:
        return True

    def add_configurations(self, experiments: Any) -> None:
        """Tune's own settings, which all trials share."""
        (experiment,) = experiments
        self._spec = experiment.spec

    def is_finished(self) -> bool:
        return self._finished or not (self._unfinished or self._fresh) or self._spending.spent()

    def next_trial(self) -> TuneTrial | None:
        """The next trial if there is room for one. A paused trial takes no room: its scheduler may wait for others."""
        active = sum(trial.status in (TuneTrial.PENDING, TuneTrial.RUNNING) for trial in self._live.values())
        if self.is_finished() or active >= self._concurrent:
            return None
        if self._unfinished:
            return self._tunes(self._unfinished.popleft())
        config = self._searcher.suggest(self._fresh[0])
        return None if config is None else self._tunes(self._journal.begin(self._fresh.popleft(), config))

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        kept = scalars(result)
        self._journal.result(trial_id, kept)
        if trial_id not in self._strangers:
            self._searcher.on_trial_result(trial_id, kept)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial, record = self._live.pop(trial_id), self._journal.records[trial_id]
        if result and FULL_DISK in result:  # it goes on when the search does
            self._journal.give_up(FullDiskError(result[FULL_DISK]))
        if error:
            self._journal.end(trial_id, "failed", _said(trial), lost=True)
        elif result and FAILED in result:
            seen = scalars(result) if math.isfinite(result[METRIC]) else None
            self._journal.end(trial_id, "failed", result[FAILED], seen)
        elif trial_id in self._spending.stopped:
            self._journal.end(trial_id, "stopped", BUDGET, scalars(result) if result else None)
        else:  # a scheduler that ends a paused trial gives no result
            last = scalars(result) if result else record.result or {}
            done = last.get("step", 0) >= last.get("last_step", math.inf)
            self._journal.end(trial_id, "completed" if done else "stopped", "" if done else EARLY, last or None)
        if trial_id not in self._strangers:
            _tell_end(self._searcher, self._journal.records[trial_id])

    def _tunes(self, record: Record) -> TuneTrial:
        """Tune's trial, which goes on from where the record points."""
        spec = {**copy.deepcopy(self._spec), "config": copy.deepcopy(record.config)}
        if record.pointer is not None:
            folder = self._folder.trial(record.trial)
            spec["restore"] = str(Pointer(**record.pointer).write(pointer_file(folder).parent))
            folder.put(pointer_file(folder))
        trial = create_trial_from_spec(
            spec, self._parser, evaluated_params={}, experiment_tag=record.trial, trial_id=record.trial
        )
        trial.run_metadata.last_result = dict(record.result or {})
        self._live[record.trial] = trial
        return trial


def _tell_end(searcher: Searcher, record: Record) -> None:
    """Failing is the worst that settings can do. (Optuna forgets a trial that it is told has failed, and would draw
    its neighbours again.) Of a trial that goes on when it can, nothing is said."""
    if record.lost or record.reason == BUDGET:
        return
    if record.state == "failed":
        searcher.on_trial_complete(record.trial, {METRIC: math.inf})
    else:
        searcher.on_trial_complete(record.trial, dict(record.result) if record.result else None)


def _tell_again(searcher: Searcher, past: Iterable[Mapping[str, Any]]) -> set[str]:
    """Returns the trials that are drawn with other settings now, as by another version of a sampler's package: it is
    told no more of them, for it would learn what was never played."""
    results: dict[str, Any] = {}
    strangers: set[str] = set()
    for line in past:
        trial = str(line.get("trial"))
        if line["event"] == "trial":
            again = searcher.suggest(trial)
            if again != line["config"]:
                _LOG.warning("%s was drawn as %s, is now %s", trial, line["config"], again)
                strangers.add(trial)
        elif trial in strangers:
            continue
        elif line["event"] == "result":
            results[trial] = line["result"]
            searcher.on_trial_result(trial, line["result"])
        elif line["event"] == "end":
            result = line["result"] or results.get(trial)
            _tell_end(searcher, Record(trial, {}, line["state"], line["reason"], line["lost"], result))
    return strangers


def _said(trial: TuneTrial) -> str:
    """The last line of the error that ended a trial."""
    lines = Path(trial.error_file).read_text().strip().splitlines() if trial.error_file else []
    return " ".join(lines[-1].split())[:300] if lines else "lost"


@dataclass(frozen=True, eq=False)  # schedulers have trials as keys
class _Past:
    """A trial that had ended, as far as a scheduler looks at it."""

    trial_id: str
    config: dict[str, Any]
    run_metadata: Any

    def is_finished(self) -> bool:
        return True


def remind(scheduler: TrialScheduler, records: Iterable[Record]) -> None:
    """Tells a scheduler of the trials that ended under an earlier driver; else the first to come now would go on.

    A population is of those that live.
    """
    if isinstance(scheduler, PopulationBasedTraining):
        return
    for record in records:
        if record.ended:
            known: Any = SimpleNamespace(last_result=dict(record.result or {}))
            scheduler.on_trial_add(None, _Past(record.trial, record.config, known))  # type: ignore[arg-type]
