"""`--to here`: the whole run in one process, for a debugger."""

import json
import sys

import pytest
from rich.console import Console

from gan_core.settings import SettingsError
from pipelines.jobs._submit import checked
from pipelines.jobs.in_process import play_here, with_debugger
from pipelines.launch._request import CommandLine
from pipelines.runs._folder import RunFolder
from pipelines.train.play import play
from tests.gan_core.data.written_files import class_folders, pictures
from tests.pipelines.small_runs import SMALL, client_of, named, rows, timeless

ROUNDS = ("budget.rounds=8", "budget.log_every=2", "budget.eval_every=4", "budget.checkpoint_every=4")


def line(storage, *more: str) -> CommandLine:
    return CommandLine.of(["wgan_gp", *SMALL, "name=here", f"storage.path={storage}", *ROUNDS, *more], None, None)


def test_a_run_is_played_here_without_ray_and_gone_on_with(storage, reference, monkeypatch, capfd, tmp_path):
    monkeypatch.setattr("infra.cluster.cluster", lambda: pytest.fail("a cluster was asked for"))
    play_here("train", checked("train", line(storage), "here").request)
    folder = RunFolder(storage / "here")
    assert "FID" in capfd.readouterr().out
    assert not (folder.path / "ray").exists()
    longer = checked("train", line(storage, "budget.rounds=12"), "here").request
    assert longer.resumed
    play_here("train", longer)
    assert named(client_of(storage), "here").info.status == "FINISHED"
    alone = RunFolder(tmp_path / "alone")
    alone.path.mkdir()
    list(play(longer.experiment, alone, reference, target=None))
    ours, theirs = ([timeless(row) for row in rows(one.path)] for one in (alone, folder))
    assert ours == theirs
    newest = [one.checkpoints()[-1] / "state.safetensors" for one in (alone, folder)]
    assert newest[0].read_bytes() == newest[1].read_bytes()


def test_a_run_whose_images_changed_is_refused_and_stays_as_it_was(capfd, tmp_path, monkeypatch):
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path / "cache"))
    images = pictures(40, 8, 8)
    root = class_folders(tmp_path / "set", a=images)
    words = ["data.name=folder", f"data.path={root}", "metrics.samples=64"]
    play_here("train", checked("train", line(tmp_path, *words), "here").request)
    run = named(client_of(tmp_path), "here")
    assert run.data.tags["ganfleet.data.images"] == "40"
    assert json.loads((tmp_path / "here" / "data.json").read_text())["digest"].startswith(
        run.data.tags["ganfleet.data.digest"]
    )
    measure = json.loads((tmp_path / "here" / "measure.json").read_text())
    assert len(measure) > 3
    assert {f"ganfleet.fid.{name}": value for name, value in measure.items()}.items() <= run.data.tags.items()
    for index in range(10):
        (root / "a" / f"{index}.png").unlink()
    before = {path: path.read_bytes() for path in (tmp_path / "here").glob("*.[jy]*")}
    longer = CommandLine.of(["budget.rounds=12", f"storage.path={tmp_path}"], None, "here")
    capfd.readouterr()
    with pytest.raises(SystemExit) as end:
        play_here("train", checked("train", longer, "here").request)
    assert end.value.code == 2
    (said,) = [text for text in capfd.readouterr().err.splitlines() if "error:" in text]
    assert "images 40 -> 30, digest " in said
    assert f"data.path={root}" in said
    assert "--init-from here" in said
    assert {path: path.read_bytes() for path in (tmp_path / "here").glob("*.[jy]*")} == before
    class_folders(tmp_path / "set", a=images)
    play_here("train", checked("train", longer, "here").request)
    assert rows(tmp_path / "here")[-1]["step"] == 12


def fails(console: Console) -> None:
    raise ZeroDivisionError("here")


@pytest.mark.parametrize("terminal", [True, False])
def test_an_error_opens_the_debugger_at_a_terminal(monkeypatch, capsys, terminal):
    opened = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr("pdb.post_mortem", opened.append)
    with pytest.raises(ZeroDivisionError):
        with_debugger(fails)(Console())
    assert len(opened) == terminal
    if terminal:
        frame = opened[0].tb_next.tb_frame
        assert frame.f_code is fails.__code__
    assert ("ZeroDivisionError" in capsys.readouterr().err) == terminal


def test_what_the_user_did_wrong_opens_none(monkeypatch):
    def refused(console: Console) -> None:
        raise SettingsError("no")

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("pdb.post_mortem", lambda _: pytest.fail("opened"))
    with pytest.raises(SettingsError):
        with_debugger(refused)(Console())
