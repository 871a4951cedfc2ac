"""How far a search has come, read from its journals. Imports neither torch nor Ray."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.runs import RunFolder
from pipelines.search._best import SearchResult
from pipelines.search._journal import Record, read_records
from pipelines.search._outcome import Outcome, best_of, outcome_of, ranked
from pipelines.search.confirmation.results import gather_results, seed_runs
from pipelines.settings import SearchExperiment

__all__ = ["Progress", "SearchResult", "all_confirmed", "progress", "ranked", "result_so_far"]


@dataclass(frozen=True)
class Progress:
    """What a search has played."""

    ended: int
    """Trials that have ended."""
    trials: int
    """Trials that it asks for."""
    completed: bool
    """Whether all trials and confirmation runs have ended. A search that ended early because its space has few settings
    cannot be told from one that was interrupted between two trials, and counts as completed."""
    value: float | None
    """Of the objective, of the winner: its mean if it was confirmed; else the best of the trials. None if there is
    none."""
    fid: float | None
    """Of the same; the winner's run, where the objective is another."""


def progress(experiment: SearchExperiment, folder: RunFolder) -> Progress:
    """What a search has played until now."""
    records = read_records(folder)
    last_round = experiment.budget.last_round(experiment.data.batch_size)
    objective = experiment.objective
    outcomes = [outcome_of(record, last_round, folder, objective) for record in records.values()]
    best = best_of(outcomes, objective)
    value, fid = (None, None) if best is None else (best.value, best.fid)
    about = folder.best.with_suffix(".json")
    if about.is_file():
        written = json.loads(about.read_bytes())
        value = written.get(objective.name, value)
        fid = value if objective.is_fid else written.get("run_fid", fid)
    ended = sum(one.ended for one in outcomes)
    limited = experiment.search.hours is not None or experiment.search.images is not None or about.is_file()
    all_ended = ended == len(outcomes) and ended > 0 and (limited or ended >= experiment.search.trials)
    completed = all_ended and all_confirmed(experiment, folder, outcomes)
    return Progress(ended, experiment.search.trials, completed, value, fid)


def result_so_far(experiment: SearchExperiment, folder: RunFolder) -> SearchResult:
    """What a search has found until now: its trials and its confirmation."""
    last_round, objective = experiment.budget.last_round(experiment.batches[0]), experiment.objective
    outcomes = [outcome_of(record, last_round, folder, objective) for record in read_records(folder).values()]
    if not folder.driven():
        outcomes = [one if one.ended else replace(one, state="interrupted") for one in outcomes]
    confirm = folder.below("confirm")
    records = read_records(confirm)
    if not records:
        return SearchResult(objective, outcomes, [], complete=progress(experiment, folder).completed)
    runs = seed_runs(experiment, outcomes, _begun(records))
    for run in runs:
        confirm.trial(run.id).refresh_file(confirm.trial(run.id).metrics)
    played = [outcome_of(record, last_round, confirm, objective) for record in records.values()]
    confirmed = gather_results(runs, played, confirm, objective)
    return SearchResult(objective, outcomes, confirmed, all_confirmed(experiment, folder, outcomes))


def _begun(confirmed: Mapping[str, Record]) -> dict[str, dict[str, Any]]:
    """The settings of the trials whose confirmation has begun."""
    return {name.rpartition("-")[0]: one.config["settings"] for name, one in confirmed.items()}


def all_confirmed(experiment: SearchExperiment, folder: RunFolder, trials: Sequence[Outcome]) -> bool:
    """Whether the confirmation runs that follow from these trials have ended."""
    confirmed = read_records(folder.below("confirm"))
    planned = [run.id for run in seed_runs(experiment, trials, _begun(confirmed))]
    return all(name in confirmed and confirmed[name].ended for name in planned)
