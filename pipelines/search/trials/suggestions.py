"""Gives Ray Tune the trials of a search: first those that an earlier driver left unfinished, then the sampler's.

A sampler's state is not stored. All suggestions and results in the journal are replayed to a new sampler, in the same
order: with the same seed it is then in the same state.
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

from gan_core.measures import Objective
from infra.ray_private import create_trial_from_spec, make_parser
from pipelines.runs import FullDiskError, Pointer, RunFolder, pointer_file
from pipelines.search._budget import SearchBudget
from pipelines.search._journal import BUDGET, EARLY, Journal, Record, scalars
from pipelines.search.trials._trainable import FAILED, FULL_DISK

_LOG = logging.getLogger(__name__)


class Suggestions(SearchAlgorithm):
    """The trials of these names in order, at most `concurrent` at once, with settings from the searcher."""

    def __init__(
        self,
        journal: Journal,
        searcher: Searcher,
        budget: SearchBudget,
        folder: RunFolder,
        names: Sequence[str],
        concurrent: int,
        objective: Objective,
    ) -> None:
        self._searcher, self._objective = searcher, objective
        self._journal, self._budget, self._folder = journal, budget, folder
        self._names, self._concurrent = set(names), concurrent
        self._live: dict[str, TuneTrial] = {}
        self._parser = make_parser()
        self._mismatched = _replay(searcher, journal.past, objective)
        for record in list(journal.records.values()):
            resumes = record.lost or (record.state == "stopped" and record.reason == BUDGET)
            if resumes and not budget.spent():
                journal.reopen(record.trial)
        begun = [record for record in journal.records.values() if record.trial in self._names]
        self._unfinished = deque(record for record in begun if not record.ended)
        self._fresh = deque(name for name in names if name not in journal.records)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its tuner, but nobody reads the pickle."""
        return {}

    @property
    def metric(self) -> str:
        return self._objective.name

    @property
    def total_samples(self) -> int:
        return len(self._names)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict, **spec: Any) -> bool:
        return True

    def add_configurations(self, experiments: Any) -> None:
        """Tune passes the settings that its trials share."""
        (experiment,) = experiments
        self._spec = experiment.spec

    def is_finished(self) -> bool:
        return self._finished or not (self._unfinished or self._fresh) or self._budget.spent()

    def next_trial(self) -> TuneTrial | None:
        """The next trial, if fewer than `concurrent` are active. Paused trials are not: they may wait for others."""
        active = sum(trial.status in (TuneTrial.PENDING, TuneTrial.RUNNING) for trial in self._live.values())
        if self.is_finished() or active >= self._concurrent:
            return None
        if self._unfinished:
            return self._tune_trial(self._unfinished.popleft())
        config = self._searcher.suggest(self._fresh[0])
        return None if config is None else self._tune_trial(self._journal.begin(self._fresh.popleft(), config))

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if FAILED in result:  # it takes the weights of another trial
            self._journal.diverged(trial_id, result[FAILED])
            return
        kept = scalars(result)
        self._journal.result(trial_id, kept)
        if trial_id not in self._mismatched:
            self._searcher.on_trial_result(trial_id, kept)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial, record = self._live.pop(trial_id), self._journal.records[trial_id]
        if result and FULL_DISK in result:  # the trial resumes with the search
            self._journal.give_up(FullDiskError(result[FULL_DISK]))
        if error:
            self._journal.end(trial_id, "failed", _error_of(trial), lost=True)
        elif result and FAILED in result:
            seen = scalars(result) if math.isfinite(result[self._objective.name]) else None
            self._journal.end(trial_id, "failed", result[FAILED], seen)
        elif trial_id in self._budget.stopped:
            self._journal.end(trial_id, "stopped", BUDGET, scalars(result) if result else None)
        else:  # Tune gives no result if a scheduler stops a paused trial
            last = scalars(result) if result else record.result or {}
            done = last.get("step", 0) >= last.get("last_step", math.inf)
            self._journal.end(trial_id, "completed" if done else "stopped", "" if done else EARLY, last or None)
        if trial_id not in self._mismatched:
            _report_end(self._searcher, self._journal.records[trial_id], self._objective)

    def _tune_trial(self, record: Record) -> TuneTrial:
        """A Tune trial that starts at the record's pointer."""
        spec = {**copy.deepcopy(self._spec), "config": copy.deepcopy(record.config)}
        if record.pointer is not None:
            folder = self._folder.trial(record.trial)
            spec["restore"] = str(Pointer(**record.pointer).write(pointer_file(folder).parent))
            folder.upload(pointer_file(folder))
        trial = create_trial_from_spec(
            spec, self._parser, evaluated_params={}, experiment_tag=record.trial, trial_id=record.trial
        )
        trial.run_metadata.last_result = dict(record.result or {})
        self._live[record.trial] = trial
        return trial


def _report_end(searcher: Searcher, record: Record, objective: Objective) -> None:
    """Reports the end of a trial to the sampler, unless the trial may resume.

    A failed trial gets an infinitely bad value: Optuna ignores trials with state FAIL and would suggest similar
    settings again.
    """
    if record.lost or record.reason == BUDGET:
        return
    if record.state == "failed":
        searcher.on_trial_complete(record.trial, {objective.name: objective.failure})
    else:
        searcher.on_trial_complete(record.trial, dict(record.result) if record.result else None)


def _replay(searcher: Searcher, past: Iterable[Mapping[str, Any]], objective: Objective) -> set[str]:
    """Replays the journal to a new sampler. Returns the trials for which it suggests other settings now.

    That happens with another version of the sampler's package. Such a trial's results are not reported: they belong to
    settings that the sampler did not suggest.
    """
    results: dict[str, Any] = {}
    mismatched: set[str] = set()
    for line in past:
        trial = str(line.get("trial"))
        if line["event"] == "trial":
            again = searcher.suggest(trial)
            if again != line["config"]:
                _LOG.warning("%s was drawn as %s, is now %s", trial, line["config"], again)
                mismatched.add(trial)
        elif trial in mismatched:
            continue
        elif line["event"] == "result":
            results[trial] = line["result"]
            searcher.on_trial_result(trial, line["result"])
        elif line["event"] == "end":
            result = line["result"] or results.get(trial)
            _report_end(searcher, Record(trial, {}, line["state"], line["reason"], line["lost"], result), objective)
    return mismatched


def _error_of(trial: TuneTrial) -> str:
    """The last line of a trial's error, at most 300 characters. Its traceback is among the workers' output."""
    lines = Path(trial.error_file).read_text().strip().splitlines() if trial.error_file else []
    return f"{' '.join(lines[-1].split())[:300] if lines else 'lost'}; see ray.log"


@dataclass(frozen=True, eq=False)  # schedulers have trials as keys
class _EndedTrial:
    """A trial that ended under an earlier driver, with the attributes that a scheduler reads."""

    trial_id: str
    config: dict[str, Any]
    run_metadata: Any


def remind(scheduler: TrialScheduler, records: Iterable[Record]) -> None:
    """Adds the trials that ended under an earlier driver to a scheduler. Without them the first trials of this driver
    would always pass its rungs.

    A population has no use for them: it consists of trials that have not ended.
    """
    if isinstance(scheduler, PopulationBasedTraining):
        return
    for record in records:
        if record.ended:
            known: Any = SimpleNamespace(last_result=dict(record.result or {}))
            scheduler.on_trial_add(None, _EndedTrial(record.trial, record.config, known))  # type: ignore[arg-type]
