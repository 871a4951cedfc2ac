"""Stores and disks that end a run."""

import errno
import os
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Barrier

import boto3
import pytest
import yaml
from rich.console import Console

from infra.stores.protocol import UnreachableError
from pipelines import interrupts
from pipelines.console import count_bar, say, screen_of
from pipelines.launch._log import logged
from pipelines.launch._request import CommandLine, train_request
from pipelines.launch._session import begin, finish, played
from pipelines.runs import RunFolder
from pipelines.runs._disk_full import FullDiskError, as_full_disk_error
from pipelines.runs._lookup import run_folder
from pipelines.runs._ownership import TakenOverError
from pipelines.settings._storage import Storage
from tests.pipelines.small_runs import created, ganfleet_here, small_search, small_train


def test_names_that_are_made_up_in_one_second_differ(tmp_path, monkeypatch):
    """As in an array of jobs. All play at once."""
    monkeypatch.setattr("time.strftime", lambda *_: "1128-171100")  # logging calls it, too
    count = 20
    gate, storage = Barrier(count), tmp_path / "runs"
    RunFolder(storage / "wgan-1128-171100").create("seed: 0\n")

    def play(_: int) -> str:
        request = train_request(CommandLine(["wgan"], [f"storage.path={storage}"]))
        gate.wait()
        with begin(request) as (claimed, _):
            gate.wait()
            assert claimed.experiment.name == claimed.folder.path.name
            assert yaml.safe_load(claimed.folder.experiment.read_text())["name"] == claimed.experiment.name
        return claimed.experiment.name

    with ThreadPoolExecutor(count) as pool:
        names = set(pool.map(play, range(count)))
    assert names == {f"wgan-1128-171100-{n}" for n in range(2, count + 2)}
    assert {path.name for path in storage.iterdir()} == {*names, "wgan-1128-171100"}


@pytest.mark.parametrize("verb", ["train", "search"])
def test_a_second_driver_is_refused_in_one_line(tmp_path, monkeypatch, capfd, verb):
    """Whether it begins the run or resumes it. Nothing changes."""
    small = {"train": small_train, "search": small_search}[verb]
    families = "wgan" if verb == "train" else ["wgan"]
    folder = created(small(tmp_path, families, "run"))
    before = folder.experiment.read_bytes()
    with folder.sole_driver():
        for words in (["--resume", "run", "compute.cpus=1"], ["wgan", "name=run"]):
            done = ganfleet_here(monkeypatch, capfd, verb, *words, f"storage.path={tmp_path}")
            assert (done.returncode, done.stdout) == (2, "")
            (line,) = done.stderr.splitlines()
            assert line.startswith(("error: 'run' is being played by process ", "error: name=run exists in "))
    assert folder.experiment.read_bytes() == before
    with RunFolder(tmp_path / "new").sole_driver():
        done = ganfleet_here(monkeypatch, capfd, verb, "wgan", "name=new", f"storage.path={tmp_path}")
    assert done.stderr.startswith("error: 'new' is being played by process ")
    assert done.stderr.endswith("; nearest: wait for its end, or name=new-2 for a new one\n")
    assert not RunFolder(tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("error", "code", "again"),
    [(UnreachableError("no answer"), 75, True), (TakenOverError("another driver has taken it over"), 1, False)],
)
def test_only_what_nobody_else_goes_on_with_is_to_be_gone_on_with(tmp_path, capsys, error, code, again):
    """After 75 a batch system would start the run again, and take it back from the other driver."""
    experiment = small_train(tmp_path, "wgan", "run")

    def play(_: Console) -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        finish(
            played(
                "train", experiment.storage, created(experiment), lambda: None, play, lambda _: nullcontext(Console())
            )
        )
    said = capsys.readouterr().err
    assert ended.value.code == code
    assert f"error: {error}   (log: " in said
    assert ("to go on: ganfleet train --resume run" in said) == again


@pytest.mark.parametrize(
    ("taken", "end"), [(True, TakenOverError("taken over")), (True, KeyboardInterrupt()), (False, KeyboardInterrupt())]
)
def test_only_whose_run_it_still_is_puts_its_log(tmp_path, moto_server, monkeypatch, taken, end):
    """An interrupted driver may not know yet that another driver owns the run."""
    moto_server.be_asked(monkeypatch)
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path))
    bucket = f"logs-{uuid.uuid4().hex}"
    boto3.session.Session().client("s3", endpoint_url=moto_server.url).create_bucket(Bucket=bucket)
    storage = Storage(path=f"s3://{bucket}/runs", endpoint_url=moto_server.url)
    words = [*storage.assignments, "tracking.uri=sqlite:////tmp/none.db"]
    experiment, folder = small_train(tmp_path, "wgan", "run", *words), run_folder(storage, "run")
    folder.create(experiment.to_yaml())

    def play(_: Console) -> None:
        for file in (folder.log, folder.ray_log):
            file.write_bytes(b"of the first")
        folder.claim()
        if taken:
            run_folder(storage, "run").claim()
            for name in ("run.log", "ray.log"):
                folder.mirror.write(name, b"of the second")
        raise end

    with pytest.raises(SystemExit):
        finish(played("train", experiment.storage, folder, lambda: None, play, lambda _: nullcontext(Console())))
    for file in (folder.log, folder.ray_log):
        assert folder.mirror.read(file.name) == (b"of the second" if taken else b"of the first")
        assert file.read_bytes() == b"of the first"


FULL = Path("/dev/full")
"""A file on which no space is left."""


@pytest.mark.parametrize("fullest", ["storage.path", "cache"])
def test_a_full_disk_is_one_line_that_names_what_lies_on_it(tmp_path, monkeypatch, capfd, fullest):
    """The error of a write to an open file does not name the file. The log's disk is full too."""
    cache = Path("/proc" if fullest == "cache" else tmp_path / "cache")  # where nothing is free
    monkeypatch.setenv("GANFLEET_CACHE", str(cache))
    experiment = small_train(tmp_path / "runs", "wgan", "run")
    folder = created(experiment)
    for log in (folder.log, folder.ray_log):
        log.symlink_to(FULL)

    def play(console: Console) -> None:
        say(console, "what we say")
        print("what a library says")
        FULL.write_text("a checkpoint")

    with pytest.raises(SystemExit) as ended, logged(folder.log):
        finish(played("train", experiment.storage, folder, lambda: None, play))
    error, again = capfd.readouterr().err.splitlines()
    assert ended.value.code == 75
    place = f"the cache {cache} (0.0 GB free)" if fullest == "cache" else f"storage.path={tmp_path}/runs ("
    assert error.startswith(f"error: {place}")
    assert "No space left on device; nearest: room there" in error
    assert ("GANFLEET_CACHE=FOLDER" in error) == (fullest == "cache")
    assert again.startswith("interrupted; to go on: ganfleet train --resume run")


@pytest.mark.parametrize(
    ("file", "place"), [("cache/decoded/x", "the cache {0}/cache ("), ("ray/session", "{0}/ray/session: ")]
)
def test_a_file_whose_name_is_told_says_which_disk_it_is(tmp_path, monkeypatch, file, place):
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path / "cache"))
    with pytest.raises(FullDiskError) as told, as_full_disk_error(Storage(path=tmp_path / "runs")):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(tmp_path / file))
    assert str(told.value).startswith(place.format(tmp_path))
    assert "Disk quota exceeded" in str(told.value)


def test_what_else_goes_wrong_with_a_file_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), as_full_disk_error(Storage(path=tmp_path)):
        (tmp_path / "none").read_text()


@pytest.fixture(params=["pipe", "terminal"])
def lost_screen(request) -> Iterator[None]:
    """Standard output is a pipe or terminal that was closed."""
    other, ours = os.pipe() if request.param == "pipe" else os.openpty()
    os.close(other)
    kept = os.dup(1)
    os.dup2(ours, 1)
    yield
    os.dup2(kept, 1)
    os.close(kept)
    os.close(ours)


@pytest.mark.parametrize("here", [False, True], ids=["quiet", "here"])
def test_a_run_goes_on_though_its_screen_is_gone(tmp_path, monkeypatch, lost_screen, here):
    """`here`: as `--to here`, where the output of libraries goes to the screen too."""
    monkeypatch.setattr(sys, "stdout", os.fdopen(1, "w", buffering=1, closefd=False))
    experiment = small_train(tmp_path, "wgan", "run")
    folder, numbers = created(experiment), []

    def play(console: Console) -> None:
        with count_bar(console, "rounds", 3) as tick:
            for number in range(3):
                say(console, f"step {number}: FID 12 ± 3")
                tick(1)
                numbers.append(number)

    screen = (lambda _: nullcontext(Console(file=screen_of(sys.stdout)))) if here else None
    finish(played("train", experiment.storage, folder, lambda: None, play, screen))
    assert numbers == [0, 1, 2]


def test_what_a_library_makes_of_ctrl_c_is_an_interruption(tmp_path, monkeypatch, capsys):
    """Ray ends the process, imports and databases raise errors of their own."""
    experiment = small_train(tmp_path, "wgan", "run")
    folder = created(experiment)
    for made in (SystemExit(0), SystemExit(15), ImportError("half of torch"), ValueError("no database")):

        def play(_: Console, made: BaseException = made) -> None:
            interrupts.stop_requested.set()
            raise made

        monkeypatch.setattr(interrupts, "stop_requested", interrupts.StopRequest())
        with pytest.raises(SystemExit) as ended:
            finish(played("train", experiment.storage, folder, lambda: None, play, lambda _: nullcontext(Console())))
        assert ended.value.code == 75
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("interrupted; to go on: ganfleet train --resume run")


def test_a_driver_begins_with_a_swept_folder(tmp_path):
    folder = created(small_train(tmp_path, "wgan", "run"))
    left = folder.path / "checkpoints" / f".step-000010-{uuid.uuid4().hex}-new"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    with begin(train_request(CommandLine([], [f"storage.path={tmp_path}"], resume="run"))):
        assert not left.exists()


@pytest.mark.parametrize("fails", [False, True])
def test_a_runs_log_begins_with_what_was_typed_and_ends_with_how_it_ended(tmp_path, monkeypatch, capfd, fails):
    """A worker's traceback is in the other file, and the log has its last line and names that file."""
    monkeypatch.setattr(sys, "argv", ["ganfleet", "train", "dcgan", "name=the-run", f"storage.path={tmp_path}"])
    request = train_request(CommandLine(["dcgan"], ["name=the-run", f"storage.path={tmp_path}"]))

    def play(console: Console) -> None:
        say(console, "data: some")
        if fails:
            os.write(2, b"(worker) the traceback\n")
            try:
                raise TaskError("ray::work()\n" + "frames\n" * 100 + "ValueError: no such image")
            except TaskError as error:
                raise RuntimeError("ValueError: no such image") from error

    TaskError = type("RayTaskError", (Exception,), {"__module__": "ray.exceptions"})
    with begin(request) as (claimed, undo), pytest.raises(SystemExit) if fails else nullcontext():
        finish(played("train", claimed.experiment.storage, claimed.folder, undo, play))
    ours = [line[20:] for line in claimed.folder.log.read_text().splitlines()]
    assert ours[0] == f"the-run: {tmp_path}/the-run   ganfleet train dcgan name=the-run storage.path={tmp_path}"
    settings = yaml.safe_load(ours[1].removeprefix("settings: "))
    assert settings == {"family": {"name": "dcgan"}, "name": "the-run", "storage": {"path": str(tmp_path)}}
    assert ours[2] == "data: some"
    assert ours[-1] == ("error: RuntimeError: ValueError: no such image; see ray.log" if fails else "done")
    assert claimed.folder.ray_log.read_text() == "(worker) the traceback\n" * fails
    screen = capfd.readouterr()
    assert screen.out.splitlines()[1:] == ["data: some"]
    assert screen.err == f"{ours[-1]}   (log: {claimed.folder.log})\n" * fails
