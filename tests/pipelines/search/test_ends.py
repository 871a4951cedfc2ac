"""Trials that do not play to the end: a worker dies, samples collapse, the budget is spent."""

import json
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from gan_core.settings import SettingsError
from pipelines.runs._folder import RunFolder
from pipelines.search._journal import Journal
from pipelines.search.command import search
from pipelines.search.progress import progress
from pipelines.settings._experiments import TrainExperiment
from pipelines.train.play import play
from tests.faults.processes import called, descendants
from tests.pipelines.small_runs import (
    agree,
    client_of,
    created,
    named,
    resumed,
    rows,
    small_search,
    table,
    timeless,
    tracked,
)

ROUNDS, EVERY, IMAGES = 60, 20, 16 * 60
"""Real images that one trial sees."""


def small(storage: Path, name: str, *settings: str):
    """A search whose trials see 16 images per round and do not depend on each other."""
    return small_search(
        storage,
        ["wgan_gp"],
        name,
        *("search.scheduler=none", "search.sampler=random", "search.confirm=0", "family.n_critic=1"),
        *(f"budget.rounds={ROUNDS}", f"budget.eval_every={EVERY}", "budget.log_every=10", *settings),
    )


def ended(folder: RunFolder) -> list[dict[str, str]]:
    """The trials of the journal by name."""
    return sorted(table(folder.path), key=lambda row: row["trial"])


def as_at_one_go(folder: RunFolder, reference: bytes, aside: Path) -> bool:
    """Checks that a trial's rows equal those of an uninterrupted run with its settings."""
    experiment = TrainExperiment.from_yaml(folder.experiment.read_text())
    again = RunFolder(aside)
    again.path.mkdir()
    list(play(experiment, again, reference, target=None))
    return [timeless(row) for row in rows(folder.path)] == [timeless(row) for row in rows(again.path)]


def kill_a_worker(folder: RunFolder, killed: list[int]) -> None:
    """Kills a process that plays a trial with SIGKILL, after a trial was evaluated."""
    while not any("fid" in line for file in folder.path.glob("trials/*/metrics.jsonl") for line in file.open()):
        time.sleep(0.01)
    for pid in descendants(os.getpid()):
        if called(pid).startswith(("ray::Trial", "ray::ResourceTrainable")):  # idle, busy
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)
            return


def test_a_trial_whose_worker_dies_goes_on_from_its_checkpoint(ray_cluster, storage, reference, tmp_path):
    """The objective is one of the user's own, so the whole search is told by it: high values are good."""
    own = ("search.metric=tests.gan_core.two_ranks:ink", "search.mode=max")
    experiment, killed = small(storage, "bereft", "search.trials=2", "search.max_concurrent=1", *own), []
    folder = created(experiment)
    killer = threading.Thread(target=kill_a_worker, args=(folder, killed))
    killer.start()
    search(experiment, folder, Console(quiet=True))
    killer.join()
    assert len(killed) == 1
    assert [(row["trial"], row["state"], row["step"]) for row in ended(folder)] == [
        ("t0001", "completed", str(ROUNDS)),
        ("t0002", "completed", str(ROUNDS)),
    ]
    client = client_of(storage)
    for run in tracked(client, kind="trial", search="bereft"):
        trial = folder.trial(run.data.tags["ganfleet.trial"])
        assert agree(client, run, trial.path)
        assert as_at_one_go(trial, reference, tmp_path / trial.path.name)
        assert run.data.metrics["ink"] == pytest.approx(rows(trial.path)[-1]["ink"])
    first, second = table(folder.path)
    assert float(first["ink"]) > float(second["ink"])
    for row in (first, second):
        last = rows(folder.trial(row["trial"]).path)[-1]
        assert (float(row["ink"]), float(row["fid"])) == (last["ink"], last["fid"])
    best, parent = json.loads((folder.path / "best.json").read_bytes()), named(client, "bereft")
    assert (best["trial"], best["ink"], best["run_fid"]) == (first["trial"], float(first["ink"]), float(first["fid"]))
    assert "tests.gan_core.two_ranks:ink" in folder.best.read_text(), "train --from-search measures it, too"
    assert parent.data.tags["ganfleet.best.trial"] == first["trial"]
    curve = [point.value for point in client.get_metric_history(parent.info.run_id, "best_ink")]
    assert curve == pytest.approx([float(ended(folder)[0]["ink"]), float(first["ink"])])
    assert "best_fid" not in parent.data.metrics
    found = progress(experiment, folder)
    assert (found.value, found.fid) == (float(first["ink"]), float(first["fid"]))
    for word in ("search.metric=fid", "search.mode=min"):
        with pytest.raises(SettingsError, match=f"{word.partition('=')[0]} cannot change with --resume"):
            resumed("search", "bereft", storage, word)


def test_trials_that_collapse_fail_and_the_search_ends_well(ray_cluster, storage):
    """At lr=0.1 the samples of `gan` soon collapse. A trial ends at its third such evaluation after a quarter."""
    experiment = small_search(
        storage,
        ["gan"],
        "pointless",
        *("search.scheduler=none", "search.trials=1", "search.confirm=0", "data.name=ring8", "family.lr=0.1"),
        *("family.beta1=0", "family.n_critic=1", "family.width=16", "data.batch_size=64"),
        *("budget.rounds=600", "budget.eval_every=50", "budget.log_every=50"),
    )
    folder = created(experiment)
    with pytest.raises(RuntimeError, match="no trial came to an end"):
        search(experiment, folder, Console(quiet=True))
    children = {
        run.data.tags["ganfleet.trial"]: run for run in tracked(client_of(storage), kind="trial", search="pointless")
    }
    for row in ended(folder):
        assert (row["state"], row["step"]) == ("failed", "300")
        assert row["reason"].startswith("collapsed: variety of the samples")
        logged = rows(folder.trial(row["trial"]).path)
        assert [one["variety"] < 0.001 for one in logged if one["step"] >= 200] == [True] * 3
        assert float(row["fid"]) == logged[-1]["fid"]
        tags = children[row["trial"]].data.tags
        assert (tags["ganfleet.state"], tags["ganfleet.reason"]) == ("failed", row["reason"])
        assert children[row["trial"]].info.status == "FAILED"


@pytest.fixture(scope="module")
def spent(ray_cluster, storage) -> RunFolder:
    """A search of four sequential trials with a budget in images for one and a half."""
    one_by_one = ("search.trials=4", "search.max_concurrent=1", "budget.eval_every=10")
    experiment = small(storage, "poor", *one_by_one, f"search.images={IMAGES * 3 // 2}")
    folder = created(experiment)
    search(experiment, folder, Console(quiet=True))
    return folder


@pytest.fixture(scope="module")
def before(spent) -> list[dict[str, str]]:
    return ended(spent)


def test_a_search_whose_budget_is_spent_ends_well(before, spent, storage):
    states = Counter((row["state"], row["reason"]) for row in before)
    assert set(states) <= {("stopped", "budget"), ("completed", "")}
    assert states["stopped", "budget"] >= 1
    assert len(before) < 4
    seen = sum(16 * int(row["step"]) for row in before)
    in_flight = 2 * 16 * 10  # the evaluation that spends the budget, and the next one
    assert IMAGES * 3 // 2 <= seen < IMAGES * 3 // 2 + in_flight
    assert named(client_of(storage), "poor").info.status == "FINISHED"
    for run in tracked(client_of(storage), kind="trial", search="poor"):
        (row,) = [row for row in before if row["trial"] == run.data.tags["ganfleet.trial"]]
        assert run.data.tags["ganfleet.state"] == row["state"]
        assert run.data.tags.get("ganfleet.reason", "") == row["reason"]
    assert spent.best.is_file()


def test_it_goes_on_when_there_is_more(before, spent, storage, reference, tmp_path):
    with pytest.raises(SettingsError, match=f"search.images=1 is less than before; nearest: .*={IMAGES * 3 // 2}"):
        resumed("search", "poor", storage, "search.images=1")
    search(*resumed("search", "poor", storage), Console(quiet=True))
    assert ended(spent) == before, "nothing is left to spend"
    search(*resumed("search", "poor", storage, "search.images=null"), Console(quiet=True))
    after = ended(spent)
    assert {(row["state"], row["reason"], row["step"]) for row in after} == {("completed", "", str(ROUNDS))}
    assert len(after) == 4
    client = client_of(storage)
    for run in tracked(client, kind="trial", search="poor"):
        trial = spent.trial(run.data.tags["ganfleet.trial"])
        assert run.info.status == "FINISHED"
        assert (run.data.tags["ganfleet.state"], run.data.tags["ganfleet.reason"]) == ("completed", "")
        assert agree(client, run, trial.path)
        assert as_at_one_go(trial, reference, tmp_path / trial.path.name)


def test_no_hours_left_no_trial(ray_cluster, storage):
    """The clock starts before Ray, and every trial is played to its next evaluation."""
    experiment = small(storage, "out-of-hours", "search.trials=3", "search.hours=1e-9")
    folder = created(experiment)
    with pytest.raises(RuntimeError, match="no trial came to an end"):
        search(experiment, folder, Console(quiet=True))
    assert ended(folder) == []


def test_a_search_that_runs_cannot_be_gone_on_with(spent, storage):
    with Journal(spent.path / "journal.jsonl"), pytest.raises(SettingsError, match="the search 'poor' is running"):
        search(*resumed("search", "poor", storage), Console(quiet=True))
    assert named(client_of(storage), "poor").info.status == "FINISHED"
