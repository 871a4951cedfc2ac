"""Folders of runs: names, checkpoints, and how a word on the command line finds them."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from gan_core.measures import FID
from gan_core.settings import SettingsError
from pipelines.runs._folder import NameTakenError, RunFolder
from pipelines.runs._leftovers import sweep_run
from pipelines.runs._lookup import find_checkpoint, find_run, run_names
from pipelines.search._best import SearchResult
from pipelines.search._outcome import Outcome
from pipelines.search.report._tables import write_tables
from pipelines.settings._experiments import SearchExperiment
from pipelines.settings._storage import Storage
from tests.pipelines.small_runs import small_search, small_train


@pytest.fixture
def runs(tmp_path):
    """Two training runs and a search, as their commands make them."""
    storage = tmp_path / "runs"
    for name in ("digits-wgan", "ring-gan"):
        experiment = small_train(storage, "wgan", name)
        RunFolder(experiment.folder).create(experiment.to_yaml())
    hunt = small_search(storage, ["wgan", "wgan_gp"], "hunt")
    RunFolder(hunt.folder).create(hunt.to_yaml())
    return storage


def with_checkpoints(folder: RunFolder, *steps: int) -> RunFolder:
    for step in steps:
        path = folder.path / "checkpoints" / f"step-{step:06d}"
        path.mkdir(parents=True)
        (path / "checkpoint.json").write_text(json.dumps({"step": step}))
    return folder


def steps(folder: RunFolder) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in folder.checkpoints()]


def refusal(find, *args) -> str:
    with pytest.raises(SettingsError) as caught:
        find(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_name_is_looked_for_below_the_storage_path_and_a_path_wherever_it_is(runs, tmp_path, monkeypatch):
    assert find_run("hunt", Storage(path=runs)).path == runs / "hunt"
    assert find_run(str(runs / "hunt"), Storage(path=tmp_path)).path == runs / "hunt"
    monkeypatch.chdir(tmp_path)
    assert find_run("runs/ring-gan", Storage(path=tmp_path / "elsewhere")).path == runs / "ring-gan"
    assert run_names(Storage(path=runs)) == ["digits-wgan", "hunt", "ring-gan"]


@pytest.mark.parametrize(("wrong", "right"), [("hnt", "hunt"), ("digits_wgan", "digits-wgan"), ("ring", "ring-gan")])
def test_an_unknown_name_is_told_with_the_nearest(runs, wrong, right):
    message = refusal(find_run, wrong, Storage(path=runs))
    assert f"'{wrong}'" in message
    assert message.endswith(f"nearest: {right}")


def test_a_folder_without_an_experiment_is_no_run(runs):
    (runs / "notes").mkdir()
    assert "notes" not in run_names(Storage(path=runs))
    assert "nearest: " in refusal(find_run, "notes", Storage(path=runs))
    assert "there is no run yet" in refusal(find_run, "notes", Storage(path=runs / "notes"))


def test_a_taken_name_is_refused_with_the_next_free_one(runs):
    taken = RunFolder(runs / "hunt")
    before = taken.experiment.read_text(), taken.id
    message = refusal(taken.create, "seed: 1")
    assert "name=hunt-2" in message
    assert "--resume hunt" in message
    assert (taken.experiment.read_text(), taken.id) == before
    (runs / "hunt-2").mkdir()
    assert "name=hunt-3" in refusal(taken.create, "seed: 1")


@pytest.mark.parametrize("earlier", [None, "job.json", "slurm.log"])
def test_of_several_that_begin_at_once_one_gets_the_name(tmp_path, earlier):
    """Whatever lies in the folder before the run starts."""
    count, rounds = 6, 10
    gate = Barrier(count)

    def begin(number: int) -> list[bool]:
        won = []
        for n in range(rounds):
            folder = RunFolder(tmp_path / f"run-{n}")
            gate.wait()
            try:
                folder.create(f"seed: {number}\n", {"by": str(number)})
                won.append(True)
            except NameTakenError:
                won.append(False)
        return won

    if earlier is not None:
        for n in range(rounds):
            (tmp_path / f"run-{n}").mkdir()
            (tmp_path / f"run-{n}" / earlier).write_text("{}")
    with ThreadPoolExecutor(count) as pool:
        won = list(pool.map(begin, range(count)))
    for n in range(rounds):
        (winner,) = (number for number in range(count) if won[number][n])
        folder = RunFolder(tmp_path / f"run-{n}")
        assert folder.experiment.read_text() == f"seed: {winner}\n"
        assert folder.origin == {"by": str(winner)}
        assert {path.name for path in folder.path.iterdir()} - {earlier} == {"experiment.yaml", "id.json"}


def test_a_run_whose_driver_was_killed_while_it_began_is_resumed(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    monkeypatch.setattr(RunFolder, "_write_identity", lambda *_: None)
    folder.create("seed: 1\n")
    monkeypatch.undo()
    with pytest.raises(NameTakenError, match="--resume run"):
        folder.create("seed: 2\n")
    assert find_run("run", Storage(path=tmp_path)) == folder
    folder.change(b"seed: 1\n")
    assert folder.id
    assert folder.origin == {}


def test_a_run_has_one_driver(runs):
    folder = RunFolder(runs / "hunt")
    assert not folder.driven()
    with folder.sole_driver():
        assert folder.driven()
        with pytest.raises(NameTakenError, match=r"'hunt' is being played by process \d+ on ") as refused:
            folder.sole_driver().__enter__()
        assert "\n" not in str(refused.value)
    assert not folder.driven()
    assert not RunFolder(runs / "nobody").driven()


LEFT = f".{'0123456789abcdef' * 2}"


def leftovers(run: RunFolder, age: float = 60.0) -> list[Path]:
    """What killed processes leave in the folder of a run or trial, not written to for `age` seconds."""
    names = (
        f".id.json{LEFT}.tmp",
        f"samples/.step-000020.png{LEFT}.tmp",
        f"checkpoints/.step-000020-{LEFT[1:]}-new/state",
    )
    made = [run.path / name for name in names]
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        for one in (path, path.parent):
            os.utime(one, (time.time() - age,) * 2)
    return made


def test_the_next_driver_sweeps_what_killed_writers_left(runs, tmp_path, monkeypatch):
    """In the folders of a search and its trials, and what is a day old in the caches."""
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path / "cache"))
    hunt, day = with_checkpoints(RunFolder(runs / "hunt"), 10), 86401
    made = [path for run in (hunt, hunt.trial("t1"), hunt.below("confirm").trial("t1-3")) for path in leftovers(run)]
    caches = [runs, runs / "cache", *(tmp_path / "cache" / name for name in ("schemas", "packs", "packs/one"))]
    old, new = ([folder / f".x{LEFT[:-1]}{digit}.tmp" for folder in caches] for digit in "01")
    old.append(tmp_path / "cache" / "decoded" / f"{LEFT}.part")
    for path in (*old, *new):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    for path in old:
        os.utime(path, (time.time() - day,) * 2)
    sweep_run(hunt, Storage(path=runs))
    assert [path for path in (*made, *old) if path.exists()] == []
    assert all(path.exists() for path in new)
    assert steps(hunt) == [10]
    assert list((hunt.path / "checkpoints").iterdir()) == [hunt.checkpoint(10)]


def test_what_a_live_writer_writes_is_not_swept(runs):
    hunt = RunFolder(runs / "hunt")
    swept, written, fresh = (leftovers(hunt.trial(name), age) for name, age in (("a", 60), ("b", 60), ("c", -60)))
    with hunt.trial("b").sole_writer():
        sweep_run(hunt, Storage(path=runs))
    assert [path.exists() for path in (*swept, *written, *fresh)] == [False] * 3 + [True] * 6


def test_each_run_has_an_identity_of_its_own_that_stays(runs):
    folders = [RunFolder(runs / name) for name in run_names(Storage(path=runs))]
    assert len({folder.id for folder in folders}) == 3
    assert [RunFolder(runs / name).id for name in run_names(Storage(path=runs))] == [folder.id for folder in folders]


def test_a_run_that_was_looked_at_and_is_taken_back_leaves_nothing(runs):
    """By the driver, which makes sure first that no other process plays it."""
    folder = RunFolder(runs / "ring-gan")
    with folder.sole_driver():
        with folder.sole_writer():
            pass
        folder.withdraw()
    assert not folder.path.exists()


def test_checkpoints_are_in_the_order_of_their_steps(runs):
    folder = with_checkpoints(RunFolder(runs / "ring-gan"), 900, 1_000_000, 1000, 20, 999_999)
    assert steps(folder) == [20, 900, 1000, 999_999, 1_000_000]
    assert folder.checkpoint(20) == folder.checkpoints()[0]
    (folder.path / "checkpoints" / ".step-000030-abc").mkdir()
    assert 30 not in steps(folder), "one that is being written"


def test_discarding_what_is_later(runs):
    folder = with_checkpoints(RunFolder(runs / "ring-gan"), 10, 20, 30)
    assert [path.name for path in folder.discard_after(20)] == ["step-000010", "step-000020"]
    assert steps(folder) == [10, 20]
    assert folder.discard_after(0) == []
    assert steps(folder) == []
    assert folder.discard_after(5) == []


def test_pruning_keeps_the_newest(runs):
    folder = with_checkpoints(RunFolder(runs / "ring-gan"), 10, 20, 30, 40, 100)
    folder.prune()
    assert steps(folder) == [30, 40, 100]
    folder.prune(keep=1)
    folder.prune(keep=1)
    assert steps(folder) == [100]


def test_the_checkpoint_of_a_run_is_its_newest(runs):
    folder = with_checkpoints(RunFolder(runs / "ring-gan"), 10, 20)
    assert find_checkpoint("ring-gan", Storage(path=runs)) == folder.checkpoint(20)
    assert find_checkpoint(str(folder.path), Storage(path=runs / "elsewhere")) == folder.checkpoint(20)


def test_a_checkpoint_is_found_by_its_path(runs, tmp_path, monkeypatch):
    folder = with_checkpoints(RunFolder(runs / "ring-gan"), 10, 20)
    assert find_checkpoint(str(folder.checkpoint(10)), Storage(path=tmp_path)) == folder.checkpoint(10)
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("runs/ring-gan/checkpoints/step-000010", Storage(path=tmp_path)) == folder.checkpoint(10)


def best_of_trials(runs) -> RunFolder:
    """The search with two trials, the first the best, and what is written of them."""
    hunt = RunFolder(runs / "hunt")
    outcomes = []
    for trial, fid in (("aa", 1.5), ("bb", 2.5)):
        folder = with_checkpoints(hunt.trial(trial), 10, 20)
        (folder.path / "samples").mkdir()
        (folder.path / "samples" / "step-000020.png").write_bytes(b"a picture")
        saved = str(folder.checkpoint(20))
        outcomes.append(Outcome(trial, "completed", {"name": "wgan", "lr": 0.1}, 20, 20, fid, 1.0, saved))
    write_tables(hunt, SearchExperiment.from_yaml(hunt.experiment.read_text()), SearchResult(FID, outcomes, []))
    return hunt


def test_the_checkpoint_of_a_search_is_its_best_trials(runs):
    hunt = best_of_trials(runs)
    assert find_checkpoint("hunt", Storage(path=runs)) == hunt.trial("aa").checkpoint(20)


def test_the_best_checkpoint_of_a_search_that_was_moved_is_found_where_it_is_now(runs, tmp_path):
    best_of_trials(runs)
    runs.rename(tmp_path / "moved")
    found = find_checkpoint("hunt", Storage(path=tmp_path / "moved"))
    assert found.is_dir()
    assert found == tmp_path / "moved" / "hunt" / "trials" / "aa" / "checkpoints" / "step-000020"


def test_no_checkpoint_yet(runs):
    assert "--resume ring-gan" in refusal(find_checkpoint, "ring-gan", Storage(path=runs))
    (runs / "hunt" / "trials").mkdir()
    assert "--resume hunt" in refusal(find_checkpoint, "hunt", Storage(path=runs))
    assert "nearest: hunt" in refusal(find_checkpoint, "hun", Storage(path=runs))
