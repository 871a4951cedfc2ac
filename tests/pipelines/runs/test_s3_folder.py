"""Runs that S3 keeps: a resumed run continues from the store, whatever its own machine has of it."""

import io
import json
import logging
import os
import pickle
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import NoReturn

import boto3
import pytest
import torch
from rich.console import Console

from gan_core import checkpoint, data
from gan_core.health.divergence import DivergedError
from gan_core.settings import SettingsError
from infra.mlflow.tracker import opened_run, prepare
from infra.stores.protocol import StoreError, UnreachableError
from pipelines import load
from pipelines.evaluate.real_data import real_data
from pipelines.evaluate.reference import prepare_reference
from pipelines.launch._request import folder_of
from pipelines.runs import _journal_segments, _mirror, _ownership, keep_measure, refresh_records
from pipelines.runs._folder import NameTakenError, RunFolder
from pipelines.runs._lineage import lineage
from pipelines.runs._lookup import find_checkpoint, find_run, names_with_file, run_folder, run_names
from pipelines.runs._mirror import Mirror
from pipelines.runs._ownership import TakenOverError
from pipelines.runs._paths import INIT_FROM
from pipelines.search._budget import SearchBudget
from pipelines.search._journal import Journal, scalars
from pipelines.search.report.live_table import SearchView
from pipelines.search.trials._exploit import exploit
from pipelines.search.trials.context import SearchContext
from pipelines.search.trials.monitor import SearchMonitor
from pipelines.settings._capacity import WorkerResources
from pipelines.settings._experiments import TrainExperiment
from pipelines.settings._storage import Storage
from pipelines.train._initial_weights import write_initial_checkpoint
from pipelines.train.command import train
from pipelines.train.logged_steps import LoggedStep
from pipelines.train.play import play, resume_checkpoint
from pipelines.train.rollback import play_with_rollbacks
from tests.golden.forks import snapshot
from tests.pipelines.search.test_exploit import Local
from tests.pipelines.small_runs import (
    DIVERGING,
    PlayedRun,
    client_of,
    digest,
    rows,
    small_search,
    small_train,
    timeless,
    tracked,
)
from tests.servers import Cable, Server, free_ports

pytestmark = pytest.mark.full

LAST = 12
"""The last round of `played`."""


class Machine:
    """Stands for a machine: an empty cache, and processes that remember nothing."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._folder, self._patch, self._count = folder, patch, 0

    def another(self) -> None:
        """From now on this process is on another machine, with an empty cache."""
        self._count += 1
        self._patch.setenv("GANFLEET_CACHE", str(self._folder / f"machine-{self._count}"))
        _mirror._uploaded.clear()


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    found = Machine(tmp_path, monkeypatch)
    found.another()
    return found


@pytest.fixture
def server(request, monkeypatch) -> Server:
    found = request.getfixturevalue(getattr(request, "param", "moto_server"))
    found.be_asked(monkeypatch)
    return found


@pytest.fixture
def place(server, machine) -> Storage:
    """A storage path in S3, for one test."""
    bucket = f"kept-{uuid.uuid4().hex}"
    boto3.session.Session().client("s3", endpoint_url=server.url).create_bucket(Bucket=bucket)
    return Storage(path=f"s3://{bucket}/all my runs", endpoint_url=server.url)


def started(place: Storage, played: PlayedRun, name: str = "run") -> tuple[TrainExperiment, RunFolder]:
    """The experiment of `played`, as a new run in S3."""
    experiment = played.experiment.override(f"name={name}", *place.assignments, "tracking.uri=sqlite:////tmp/none.db")
    folder = folder_of(experiment)
    folder.create(experiment.to_yaml(), {"ganfleet.search": "hunt"})
    return experiment, folder


def played_until(step: int, experiment: TrainExperiment, folder: RunFolder, reference: bytes) -> list[LoggedStep]:
    """Plays until a step is logged, then stops."""
    events = play(experiment, folder, reference, target=None, start=resume_checkpoint(folder))
    seen = list(takewhile(lambda event: event.step < step, events))
    events.close()
    return seen


def resume(experiment: TrainExperiment, folder: RunFolder, reference: bytes) -> tuple[int | None, list[LoggedStep]]:
    """Resumes a run as a worker does. Returns the step that it resumes from, and its logged steps."""
    folder.restore()
    start = resume_checkpoint(folder)
    return start and int(start.name[5:]), list(play(experiment, folder, reference, target=None, start=start))


def ended_as(folder: RunFolder, played: PlayedRun) -> bool:
    """Whether the store has the same rows, pictures and last checkpoint of a run as `played`."""
    folder.refresh(LAST)
    ours, theirs = ([timeless(row) for row in rows(one.path)] for one in (folder, played.folder))
    pictures = [[path.read_bytes() for path in one.pictures()] for one in (folder, played.folder)]
    same = digest(folder.checkpoint(LAST)) == digest(played.folder.checkpoint(LAST))
    return ours == theirs and pictures[0] == pictures[1] and same


def mirror_of(folder: RunFolder) -> Mirror:
    return folder.mirror


def keep_rows_until(step: int, kept: Mirror) -> None:
    """Removes later rows from the store."""
    lines = kept.read("metrics.jsonl").splitlines(keepends=True)
    early = b"".join(line for line in lines if json.loads(line)["step"] <= step)
    kept.store.write(f"{kept.inside}/metrics.jsonl", early)


def content(place: Storage) -> dict[str, str]:
    """Everything in the store, with the digests that S3 computes."""
    client = boto3.session.Session().client("s3", endpoint_url=place.endpoint_url)
    bucket = str(place.path).removeprefix("s3://").partition("/")[0]
    return {one["Key"]: one["ETag"] for one in client.list_objects_v2(Bucket=bucket)["Contents"]}


@contextmanager
def driving(folder: RunFolder) -> Iterator[None]:
    """The driver of a search, which is killed in the end."""
    folder.path.mkdir(parents=True, exist_ok=True)
    with Journal(folder.journal, folder.segments()) as journal:
        try:
            yield
        finally:
            journal._error = StoreError("killed")


on_both = pytest.mark.parametrize("server", ["moto_server", "swift_server"], indirect=True)


# A run


@on_both
def test_a_run_goes_on_bit_for_bit_on_a_machine_that_has_nothing_of_it(place, machine, played, reference):
    experiment, folder = started(place, played)
    assert played_until(8, experiment, folder, reference)[-1].step == 6
    identity = folder.id
    machine.another()
    again = find_run("run", place)
    assert (again.id, again.origin) == (identity, {"ganfleet.search": "hunt"})
    assert not again.path.is_relative_to(folder.path)
    start, events = resume(experiment, again, reference)
    assert (start, [event.step for event in events]) == (6, [8, 9, 10, 12])
    machine.another()
    assert ended_as(find_run("run", place), played)


def test_an_undisturbed_run_is_in_the_store_when_its_events_are_told(place, machine, played, reference):
    experiment, folder = started(place, played)
    for event in play(experiment, folder, reference, target=None):
        if event.checkpoint is not None:
            assert folder.steps()[-1] == event.step
            kept = [json.loads(line)["step"] for line in mirror_of(folder).read("metrics.jsonl").splitlines()]
            assert kept[-1] == event.step
    assert folder.steps() == [6, 9, 12]
    machine.another()
    assert ended_as(find_run("run", place), played)
    for found in (load("run", *place.assignments), load(folder.where, *place.assignments[1:])):
        assert found.metrics.step.tolist() == [row["step"] for row in played.folder.rows()]
        assert "data:image/png;base64," in found._repr_html_()
        assert torch.equal(found.sample(3), load(played.folder.path).sample(3))


def test_what_lies_on_a_machine_never_wins_over_the_store(place, machine, played, reference, monkeypatch):
    """The first machine plays to step 6, the second to the end with other settings, then the first resumes."""
    experiment, folder = started(place, played)
    played_until(8, experiment, folder, reference)
    first = folder.path.parents[2]
    machine.another()
    other = experiment.override("budget.rounds=15", "family.lr=1e-2")
    there = run_folder(place, "run")
    resume(other, there, reference)
    assert there.steps()[-1] == 15
    state = digest(there.checkpoint(15))
    monkeypatch.setenv("GANFLEET_CACHE", str(first))
    _mirror._uploaded.clear()
    back = run_folder(place, "run")
    assert [int(path.name[5:]) for path in back.checkpoints()] == [3, 6]
    (back.path / "samples" / "step-000099.png").write_bytes(b"of no run")
    back.restore()
    assert [int(path.name[5:]) for path in back.checkpoints()] == [15]
    assert digest(back.checkpoint(15)) == state
    assert rows(back.path)[-1]["step"] == 15
    assert back.picture(4) in back.pictures()
    assert back.picture(99) not in back.pictures()


@on_both
def test_the_driver_of_a_run_that_was_taken_over_keeps_no_more(place, machine, played, reference):
    """Its machine still plays while another driver, on another machine, resumes the same run."""
    experiment, folder = started(place, played)
    folder.claim()
    events = play(experiment, pickle.loads(pickle.dumps(folder)), reference, target=None)
    assert next(event for event in events if event.checkpoint).step == 3
    machine.another()
    second = find_run("run", place)
    second.claim()
    with pytest.raises(TakenOverError, match=f"{place.path}/run: another driver has taken it over"):
        list(events)
    assert second.steps() == [3], "nothing was uploaded or deleted"
    start, _ = resume(experiment, second, reference)
    assert start == 3
    machine.another()
    assert ended_as(find_run("run", place), played)


@on_both
@pytest.mark.parametrize("inside", ["trials/t0001", "confirm/trials/t0001-7"])
def test_a_trial_of_a_search_that_was_taken_over_keeps_and_deletes_no_more(
    place, machine, played, reference, inside, monkeypatch
):
    """It still plays on its machine while a second driver, on another machine, resumes the search."""
    first, cache = run_folder(place, "hunt"), os.environ["GANFLEET_CACHE"]
    with driving(first):
        trial = pickle.loads(pickle.dumps(first.below(inside)))
        events = play(played.experiment, trial, reference, target=None)
        assert next(event for event in events if event.step == 6).checkpoint
        donor = run_folder(place, "hunt").below("trials/t0002")
        played_until(10, played.experiment, donor, reference)
        keep_rows_until(4, mirror_of(trial))
        machine.another()
        second = run_folder(place, "hunt")
        with driving(second):
            before = content(place)
            monkeypatch.setenv("GANFLEET_CACHE", cache)
            for late in (
                lambda: list(events),
                lambda: trial.discard_after(3),
                lambda: trial.prune(keep=1),
                trial.restore,
                lambda: exploit(trial, donor, 5, {"lr": 0.1}),
                lambda: trial.upload(trial.experiment),
                lambda: trial.delete(trial.experiment),
            ):
                with pytest.raises(TakenOverError, match=f"{place.path}/hunt: another driver has taken it over"):
                    late()
            assert content(place) == before
            machine.another()
            again = pickle.loads(pickle.dumps(second.below(inside)))
            start, _ = resume(played.experiment, again, reference)
            assert start == 3, "the last checkpoint that has its rows"
            machine.another()
            assert ended_as(run_folder(place, "hunt").below(inside), played)


def test_the_confirmation_of_a_search_that_was_taken_over_writes_no_more(place, machine):
    """The second driver has not reached the confirmation yet."""
    first = run_folder(place, "hunt")
    with driving(first):
        confirming = first.below("confirm")
        confirming.path.mkdir()
        with Journal(confirming.journal, confirming.segments()) as journal:
            journal.begin("t0001-7", {"settings": {}})
            machine.another()
            with driving(run_folder(place, "hunt")), pytest.raises(TakenOverError):
                journal.end("t0001-7", "failed", "another driver has taken it over", lost=True)
    with reopened(place, "hunt/confirm") as journal:
        assert journal.records["t0001-7"].state == "waiting"


@pytest.mark.parametrize("torn", ["the last file is not there", "another state", "half a state", "nothing is told"])
def test_a_checkpoint_that_is_not_whole_is_not_gone_on_from(place, machine, played, reference, torn):
    experiment, folder = started(place, played)
    played_until(10, experiment, folder, reference)
    assert folder.steps() == [3, 6, 9]
    kept, name = mirror_of(folder), "checkpoints/step-000009/"
    if torn == "the last file is not there":
        kept.delete([f"{name}checkpoint.json"])
    elif torn == "nothing is told":
        kept.delete([f"{name}state.safetensors"])
    else:
        state = folder.checkpoint(6 if torn == "another state" else 9) / "state.safetensors"
        content = state.read_bytes()
        kept.store.write(f"run/{name}state.safetensors", content if torn == "another state" else content[:100])
    machine.another()
    again = find_run("run", place)
    start, _ = resume(experiment, again, reference)
    assert start == 6
    assert ended_as(again, played)


def test_a_damaged_checkpoint_that_is_to_be_read_is_told(place, machine, played, reference):
    experiment, folder = started(place, played)
    list(play(experiment, folder, reference, target=None))
    key = f"checkpoints/step-{LAST:06d}/state.safetensors"
    mirror_of(folder).store.write(f"run/{key}", b"torn")
    machine.another()
    said = refusal(lambda: find_checkpoint("run", place))
    where = f"{place.path}/run/checkpoints/step-{LAST:06d}"
    assert said == f"{where} is damaged; nearest: --resume run, which goes on from an older one"


def test_checkpoints_without_their_rows_are_not_gone_on_from(place, machine, played, reference):
    """The last upload of the rows came before that of the checkpoints."""
    experiment, folder = started(place, played)
    list(play(experiment, folder, reference, target=None))
    keep_rows_until(8, mirror_of(folder))
    assert folder.steps() == [6, 9, 12]
    machine.another()
    again = find_run("run", place)
    again.restore()
    assert again.steps() == [6]
    assert resume_checkpoint(again) == again.checkpoint(6)
    resume(experiment, again, reference)
    assert ended_as(again, played)


def test_what_comes_after_a_step_that_was_reported_is_forgotten_everywhere(place, machine, played, reference):
    experiment, folder = started(place, played)
    played_until(12, experiment, folder, reference)
    assert folder.steps() == [6, 9, 12]
    machine.another()
    again = find_run("run", place)
    again.restore(until=11)
    assert [int(path.name[5:]) for path in again.checkpoints()] == [9]
    again.discard_after(11)
    assert again.steps() == [6, 9]
    again.prune(keep=1)
    assert again.steps() == [9]
    resume(experiment, again, reference)
    machine.another()
    assert ended_as(find_run("run", place), played)


def test_a_run_that_diverges_leaves_its_rows(place, machine, storage, reference):
    words = [*DIVERGING, "budget.rounds=80", "budget.log_every=4", "budget.eval_every=80", "metrics.extractor=pixels"]
    experiment = small_train(storage, "gan", "ends-badly", *words).override(
        *place.assignments, "tracking.uri=sqlite:////x"
    )
    folder = folder_of(experiment)
    folder.create(experiment.to_yaml())
    content = prepare_reference(experiment.metrics, data.load(experiment.data), storage, Console(quiet=True)).content
    with pytest.raises(DivergedError):
        list(play(experiment, folder, content, target=None))
    assert mirror_of(folder).read("metrics.jsonl") == (folder.path / "metrics.jsonl").read_bytes() != b""
    assert folder.steps() == []


def test_the_weights_that_a_run_begins_with_are_in_the_store(place, machine, played):
    experiment, _ = started(place, played, "origin")
    experiment = experiment.override("name=later")
    folder = folder_of(experiment)
    folder.create(experiment.to_yaml(), {INIT_FROM: str(played.folder.checkpoint(LAST))})
    write_initial_checkpoint(experiment, folder, data.load(experiment.data))
    machine.another()
    again = find_run("later", place)
    again.restore()
    assert resume_checkpoint(again) == again.checkpoint(0)
    again.withdraw()
    assert "checkpoints" not in str(list(mirror_of(again).sizes()))


def test_a_rollback_is_in_the_store(place, machine, storage, reference):
    words = [*DIVERGING, "budget.rounds=80", "budget.log_every=4", "budget.eval_every=80", "metrics.extractor=pixels"]
    words += ["reliability.on_divergence=rollback", "reliability.rollbacks=1", "reliability.rollback_lr_factor=0.9"]
    experiment = small_train(storage, "gan", "back", *words).override(*place.assignments, "tracking.uri=sqlite:////x")
    folder = folder_of(experiment)
    folder.create(experiment.to_yaml())
    content = prepare_reference(experiment.metrics, data.load(experiment.data), storage, Console(quiet=True)).content

    def begin():
        return play(experiment, folder, content, target=None, start=resume_checkpoint(folder))

    with pytest.raises(DivergedError, match="after 1 rollback"):
        list(play_with_rollbacks(experiment.reliability, folder, begin))
    machine.another()
    again = find_run("back", place)
    again.restore()
    assert checkpoint.describe(resume_checkpoint(again))["rollbacks"] == 1
    assert "ganfleet.rollback.1" in (again.path / "tags.json").read_text()


def test_a_worker_on_another_machine_has_the_folder_there(place, machine, played):
    _, folder = started(place, played)
    sent = pickle.dumps(folder.trial("t0001"))
    machine.another()
    there = pickle.loads(sent)
    assert (there.where, there.path.name) == (f"{place.path}/run/trials/t0001", "t0001")
    assert not there.path.is_relative_to(folder.path)
    assert run_folder(place, "run").id == folder.id


class MendingHandler(logging.Handler):
    """Mends a cable once a log line says that the store does not answer."""

    def __init__(self, cable: Cable) -> None:
        super().__init__()
        self._cable, self.heard = cable, 0

    def emit(self, record: logging.LogRecord) -> None:
        self.heard += 1
        self._cable.mend()


@pytest.fixture
def cable(server) -> Iterator[Cable]:
    found = Cable(server.url, mended=False)
    yield found
    found.close()


def test_a_store_that_is_away_is_waited_for(place, machine, played, reference, cable, monkeypatch):
    """A run's files, and a search's journal, are saved once the store answers again."""
    through = place.override(f"endpoint_url={cable.url}")
    experiment, folder = started(through, played)
    mending = MendingHandler(cable)
    monkeypatch.setattr(_ownership, "RETRY_PAUSE", 0.0)
    _ownership._LOG.addHandler(mending)
    try:
        folder.claim()
        for event in play(experiment, folder, reference, target=None):
            if event.step == 8:
                cable.cut_next()
        assert mending.heard == 1
        with reopened(through) as journal:
            cable.cut_next()
            journal.begin("t0001", {"settings": {}})
        assert mending.heard == 2
    finally:
        _ownership._LOG.removeHandler(mending)
    machine.another()
    assert ended_as(run_folder(place, "run"), played)
    with reopened(place) as again:
        assert list(again.records) == ["t0001"]


def test_a_store_that_stays_away_is_not_waited_for_without_end(place, machine, played, reference, cable, monkeypatch):
    experiment, folder = started(place.override(f"endpoint_url={cable.url}"), played)
    monkeypatch.setattr(_ownership, "RETRY_SECONDS", 0.0)
    folder.claim()
    events = play(experiment, folder, reference, target=None)
    next(events)
    cable.cut_next()
    with pytest.raises(UnreachableError, match=f"no answer from {cable.url}"):
        list(events)


def test_who_was_told_to_end_waits_for_no_store(place, machine, cable, monkeypatch):
    folder = run_folder(place.override(f"endpoint_url={cable.url}"), "run")
    folder.claim()
    monkeypatch.setattr(_ownership, "stop_requested", threading.Event())
    _ownership.stop_requested.set()
    cable.cut_next()
    with pytest.raises(UnreachableError):
        folder.save()


def test_a_second_driver_on_the_same_machine_touches_nothing_while_the_first_plays(place, machine, played, reference):
    experiment, folder = started(place, played)
    played_until(10, experiment, folder, reference)
    said = io.StringIO()

    def never(*_: object) -> NoReturn:
        raise SettingsError("enough")

    def second() -> None:
        with pytest.raises(SettingsError, match="enough"):
            train(experiment, run_folder(place, "run"), Console(file=said), never)

    thread = threading.Thread(target=second)
    with folder.sole_writer():
        before = snapshot(folder.path)
        thread.start()
        deadline = time.monotonic() + 60
        while "another process still writes; waiting for it" not in said.getvalue():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert snapshot(folder.path) == before
    thread.join(60)
    assert snapshot(folder.path) != before, "then it resumes from the store"


# Names


def test_a_name_is_taken_once_it_is_in_the_store(place, machine, played):
    started(place, played, "taken")
    machine.another()
    with pytest.raises(SettingsError) as refused:
        started(place, played, "taken")
    assert f"name=taken exists in {place.path}; nearest: name=taken-2, or --resume taken" in str(refused.value)
    started(place, played, "other")
    assert run_names(place) == ["other", "taken"]
    assert names_with_file("job.json", place) == []
    with pytest.raises(SettingsError, match=f"no run named 'takn' in {place.path}; nearest: taken"):
        find_run("takn", place)
    elsewhere = Storage(endpoint_url=place.endpoint_url)
    assert find_run(f"{place.path}/taken", elsewhere).where == f"{place.path}/taken"


def test_of_two_machines_that_begin_at_once_one_gets_the_name(place, machine, played, monkeypatch):
    """Both found the name free."""
    monkeypatch.setattr(RunFolder, "check_free", lambda _: None)
    experiment, folder = started(place, played)
    kept = content(place)
    machine.another()
    with pytest.raises(NameTakenError, match="nearest: name=run-2, or --resume run"):
        started(place, played)
    assert content(place) == kept
    machine.another()
    assert folder_of(experiment).exists()
    assert folder_of(experiment).id == json.loads(folder.identity.read_bytes())["id"]


def test_a_run_whose_driver_was_killed_while_it_began_is_resumed(place, machine, played):
    experiment, folder = started(place, played)
    mirror_of(folder).delete(["id.json"])
    machine.another()
    with pytest.raises(NameTakenError):
        started(place, played)
    again = find_run("run", place)
    again.change(experiment.to_yaml().encode())
    machine.another()
    assert find_run("run", place).id == again.id


def test_the_lock_of_a_driver_outlives_the_copy_of_an_earlier_run(place, machine, played):
    experiment, folder = started(place, played)
    with folder.sole_driver():
        mirror_of(folder).delete(list(mirror_of(folder).sizes()))
        folder.create(experiment.to_yaml())
        assert folder.driven()


def test_what_is_taken_back_leaves_nothing(place, machine, played):
    _, folder = started(place, played)
    with Journal(folder.journal, folder.segments()) as journal:
        journal.begin("t0001", {"settings": {"name": "wgan"}})
    folder.log.write_text("a log")
    folder.upload(folder.log)
    folder.withdraw()
    assert list(mirror_of(folder).sizes()) == []
    started(place, played)


def test_what_a_runs_data_were_is_in_the_store(place, machine, played):
    experiment, folder = started(place, played)
    quiet = Console(quiet=True)
    real_data(experiment, folder, quiet)
    keep_measure(folder, {"ganfleet.fid.extractor": "pixels"})
    kept = mirror_of(folder).read("data.json")
    machine.another()
    found = find_run("run", place)
    refresh_records(found)
    assert found.data.read_bytes() == kept
    assert json.loads(found.measure.read_bytes()) == {"extractor": "pixels"}
    real_data(experiment, found, quiet)
    with pytest.raises(SettingsError, match="data.name=digits: 'run' began with other data: shape 1x8x8 -> 1x16x16"):
        real_data(experiment.override("data.image_size=16"), found, quiet)
    assert mirror_of(found).read("data.json") == kept
    found.withdraw()
    assert mirror_of(found).sizes() == {}


def test_a_new_run_has_nothing_of_an_earlier_one_of_its_name(place, machine, played, reference):
    experiment, folder = started(place, played)
    played_until(8, experiment, folder, reference)
    folder.job.write_text("of the batch system")
    mirror_of(folder).delete(list(mirror_of(folder).sizes()))
    _, again = started(place, played)
    assert again.path == folder.path
    assert sorted(path.name for path in again.path.iterdir()) == ["experiment.yaml", "id.json", "job.json"]


def test_the_newest_checkpoint_of_a_run_is_brought_to_be_read(place, machine, played, reference):
    experiment, folder = started(place, played)
    list(play(experiment, folder, reference, target=None))
    written = [path.stat().st_mtime for path in folder.pictures()]
    machine.another()
    path = find_checkpoint("run", place)
    assert digest(path) == digest(played.folder.checkpoint(LAST))
    brought = [found.stat().st_mtime for found in RunFolder(path.parents[1]).pictures()]
    assert brought == pytest.approx(written, abs=5), "the times of the upload"
    assert brought == sorted(brought)


@pytest.mark.parametrize("told_by", ["setting", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_where_nodes_share_no_folder_rays_files_go_to_the_store(place, machine, monkeypatch, told_by):
    endpoint, storage = place.endpoint_url, place
    if told_by != "setting":
        monkeypatch.setenv(told_by, endpoint)
        storage = Storage(path=place.path)
    given = run_folder(storage, "run").ray_storage("tune", nodes=2)
    files = pickle.loads(pickle.dumps(given["storage_filesystem"]))
    files.create_dir(given["storage_path"], recursive=True)
    with files.open_output_stream(f"{given['storage_path']}/state") as out:
        out.write(b"of Ray")
    assert Mirror(place, "run").read("tune/state") == b"of Ray"
    assert run_names(storage) == []
    run_folder(storage, "run").restore()
    run_folder(storage, "run").refresh()
    assert run_folder(storage, "run").ray_storage("tune", nodes=1) == {
        "storage_path": str(storage.folder / "run" / "tune")
    }


# A population


def test_weights_are_taken_from_the_store(place, machine, played, reference):
    experiment, donor = started(place, played, "donor")
    played_until(10, experiment, donor, reference)
    _, taker = started(place, played, "taker")
    machine.another()
    donor, taker = run_folder(place, "donor"), run_folder(place, "taker")
    taker.restore()
    assert exploit(taker, donor, 5, {"lr": 0.1}) == 6
    machine.another()
    taker = run_folder(place, "taker")
    taker.restore()
    assert lineage(taker) == [{"step": 0, "parent_step": 6, "parent": "donor", "settings": {"lr": 0.1}}]
    assert exploit(taker, run_folder(place, "donor"), 5, {"lr": 0.1}) == 6, "an exploitation is not repeated"
    assert digest(taker.checkpoint(6)) == digest(played.folder.checkpoint(6))


# A search's journal


def reopened(place: Storage, name: str = "hunt") -> Journal:
    folder = run_folder(place, name)
    folder.path.mkdir(parents=True, exist_ok=True)
    return Journal(folder.journal, folder.segments())


def test_a_journal_is_read_from_the_store_alone(place, machine):
    with reopened(place) as journal:
        journal.begin("t0001", {"settings": {"name": "wgan", "lr": 0.1}})
        journal.result("t0001", {"step": 20, "images_seen": 320, "fid": 5.0})
        machine.another()
        with reopened(place) as second:  # the first driver was killed
            assert second.records["t0001"].result == {"step": 20, "images_seen": 320, "fid": 5.0}
            second.end("t0001", "completed")
        journal._error = StoreError("killed")
    machine.another()
    with reopened(place) as third:
        assert third.records["t0001"].state == "completed"
        assert [line["event"] for line in third.past] == ["trial", "result", "end", "clock"]
        assert third.path.read_bytes().count(b"\n") == 4


def test_a_line_that_is_here_alone_was_never_acted_on(place, machine):
    with reopened(place) as journal:
        journal.begin("t0001", {"settings": {}})
        with journal.path.open("a") as file:
            file.write('{"event": "end", "trial": "t0001", "state": "failed"}\n')
    with reopened(place) as again:
        assert again.records["t0001"].state == "waiting"


@on_both
def test_the_driver_that_was_taken_over_writes_no_more(place, machine):
    with reopened(place) as first:
        first.begin("t0001", {"settings": {}})
        machine.another()
        with reopened(place) as second:
            second.begin("t0002", {"settings": {}})
            with pytest.raises(TakenOverError, match="another driver has taken it over"):
                first.begin("t0003", {"settings": {}})
            with pytest.raises(TakenOverError):
                first.tick()
    with reopened(place) as third:
        assert set(third.records) == {"t0001", "t0002"}


def test_a_trial_that_ends_while_its_store_is_away_is_closed_later(place, machine, cable, tmp_path, reference):
    budget = ("budget.rounds=10", "budget.log_every=10", "budget.eval_every=10")
    words = [f"storage.endpoint_url={cable.url}", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", *budget]
    experiment = small_search(place.path, ["wgan_gp"], "hunt", *words)
    folder = folder_of(experiment)
    folder.create(experiment.to_yaml())
    tracking = prepare(experiment.tracking_uri, "ganfleet", tmp_path / "mlartifacts")
    parent = opened_run(experiment.tracking_uri, tracking, {"ganfleet.id": folder.id}, "hunt", None, {}, {}).info.run_id
    where = (experiment.tracking_uri, tracking, parent)
    context = SearchContext(experiment, folder, reference, *where, {}, WorkerResources(False, 1))
    with reopened(experiment.storage) as journal:
        journal.begin("t0001", {"settings": {"name": "wgan_gp"}})
        trial = Local(context).trial("t0001")
        journal.end("t0001", "completed", result=scalars(trial.step()))
        trial.stop()
        monitor = SearchMonitor(context, journal, SearchBudget(journal), SearchView(Console(quiet=True), experiment))
        cable.cut_next()
        monitor.trial_ended("t0001")
        assert not journal.records["t0001"].closed
        cable.mend()
        assert [outcome.state for outcome in monitor.close_runs()] == ["completed"]
        assert journal.records["t0001"].closed
    (run,) = tracked(client_of(tmp_path), kind="trial")
    assert (run.info.status, run.data.tags["ganfleet.state"]) == ("FINISHED", "completed")


def test_a_line_costs_a_segment_at_most(place, machine, monkeypatch):
    monkeypatch.setattr(_journal_segments, "SEGMENT_BYTES", 1000)
    segments = run_folder(place, "hunt").segments()
    assert segments.claim() == b""
    lines = [f"line {number} {'x' * 90}\n".encode() for number in range(40)]
    for line in lines:
        segments.add(line)
    sizes = list(mirror_of(run_folder(place, "hunt")).sizes("journal/").values())
    assert len(sizes) == 4
    assert max(sizes) < 1200
    assert run_folder(place, "hunt").segments().claim() == b"".join(lines)


# What is wrong with the place


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(SettingsError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_place_that_cannot_be_used_is_one_line(place, machine, played):
    gone = Storage(path="s3://no-such-bucket/runs", endpoint_url=place.endpoint_url)
    said = refusal(lambda: started(gone, played))
    assert said.startswith("storage.path=s3://no-such-bucket/runs: there is no bucket no-such-bucket; nearest: ")
    nobody = Storage(path=place.path, endpoint_url=f"http://127.0.0.1:{free_ports(1)[0]}")
    began = time.monotonic()
    said = refusal(lambda: find_run("run", nobody))
    assert "no answer from" in said
    assert "nearest: storage.endpoint_url=http://HOST:PORT" in said
    assert time.monotonic() - began < 60


def test_a_wrong_secret_is_one_line(swift_server, machine, played, monkeypatch):
    swift_server.be_asked(monkeypatch)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "guessed")
    said = refusal(lambda: started(Storage(path="s3://secret/runs", endpoint_url=swift_server.url), played))
    assert said.startswith("storage.path=s3://secret/runs: ")
    assert "access denied (403" in said
    assert "nearest: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in said


@pytest.mark.parametrize(
    ("path", "right"),
    [("s3:/bucket/x", "s3://bucket/x"), ("s3://", "s3://bucket/prefix"), ("gs://bucket/x", "s3://bucket/x")],
)
def test_what_is_no_place_is_told_with_the_nearest(path, right):
    assert refusal(lambda: Storage.load({"path": path}, "storage.")).endswith(f"nearest: storage.path={right}")


def test_a_run_in_s3_must_be_tracked_somewhere(tmp_path):
    said = refusal(lambda: small_train("s3://bucket/runs", "wgan", "x"))
    assert "storage.path=s3://bucket/runs cannot hold MLflow's database; nearest: tracking.uri=" in said
    assert small_train("s3://bucket/runs", "wgan", "x", f"tracking.uri=sqlite:///{tmp_path}/m.db").storage.remote
