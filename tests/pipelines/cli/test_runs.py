"""`ganfleet runs`: what is listed, compared and removed, in a folder and in S3."""

import json
import os
import shutil
import time
from pathlib import Path

import boto3
import pytest

from infra.locks import held
from tests.pipelines.small_runs import ganfleet_here, rows, small_search


@pytest.fixture
def place(played, tmp_path) -> Path:
    """A storage path with two runs, one of them with other settings and cut off, and a search, all written by hand."""
    for name in ("first", "second"):
        shutil.copytree(played.folder.path, tmp_path / name, ignore=shutil.ignore_patterns(".*"))
    for file in ("experiment.yaml", "metrics.jsonl"):
        changed = tmp_path / "second" / file
        text = changed.read_text()
        changed.write_text(text.replace("n_critic: 2", "n_critic: 3") if file[0] == "e" else text.split("\n")[0] + "\n")
        os.utime(changed, (time.time() - 7300,) * 2)
    experiment = small_search(tmp_path, ["wgan", "gan"], "hunt", "search.trials=3", "budget.rounds=12")
    (tmp_path / "hunt").mkdir()
    (tmp_path / "hunt" / "id.json").write_text(json.dumps({"id": "1" * 32, "origin": {}}))
    (tmp_path / "hunt" / "experiment.yaml").write_text(experiment.to_yaml())
    (tmp_path / "hunt" / "journal.jsonl").write_text("".join(journal(("t0001", 70.5), ("t0002", 61.25))))
    os.utime(tmp_path / "hunt" / "journal.jsonl", (time.time() + 5,) * 2)
    return tmp_path


def journal(*trials: tuple[str, float]):
    """The lines of a search whose trials have ended with these FIDs."""
    for name, fid in trials:
        result = {"fid": fid, "step": 12, "images_seen": 192}
        config = {"settings": {"name": "wgan", "lr": fid}}
        yield json.dumps({"event": "trial", "trial": name, "config": config, "seconds": 1}) + "\n"
        end = {"state": "completed", "reason": "", "lost": False, "result": result, "time": 1}
        yield json.dumps({"event": "end", "trial": name, **end, "seconds": 2}) + "\n"


def table(text: str) -> list[list[str]]:
    """The cells of a table whose columns are two blanks apart."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def test_runs_and_searches_are_listed_the_newest_first(place, monkeypatch, capsys):
    done = ganfleet_here(monkeypatch, capsys, "runs", f"storage.path={place}", "--json", place / "found.json")
    assert done.returncode == 0, done.stderr
    head, *lines = table(done.stdout)
    assert head == ["name", "family", "state", "FID", "steps", "last written"]
    lowest = min(row["fid"] for row in rows(place / "first") if "fid" in row)
    shown = {line[0]: line[1:] for line in lines}
    assert list(shown) == ["hunt", "first", "second"]
    assert shown["hunt"][:-1] == ["wgan, gan", "unfinished", "61.2", "2/3 trials"]
    assert shown["first"][:-1] == ["wgan_gp", "completed", f"{lowest:.1f}", "12/12"]
    assert shown["second"] == ["wgan_gp", "unfinished", "-", f"{rows(place / 'second')[0]['step']}/12", "2 h ago"]
    with held(place / "second" / "driver"):
        done = ganfleet_here(monkeypatch, capsys, "runs", "second", f"storage.path={place}")
    assert table(done.stdout)[1][2] == "running"
    found = json.loads((place / "found.json").read_text())["runs"]
    assert [(one["name"], one["kind"], one["done"], one["of"]) for one in found] == [
        ("hunt", "search", 2, 3),
        ("first", "run", 12, 12),
        ("second", "run", rows(place / "second")[0]["step"], 12),
    ]
    assert found[1]["fid"] == lowest
    assert found[1]["measures"] == {name: value for name, value in rows(place / "first")[-1].items() if name != "step"}


def test_a_search_is_completed_once_its_trials_and_its_confirmation_are(place, monkeypatch, capsys):
    def state() -> list[str]:
        done = ganfleet_here(monkeypatch, capsys, "runs", "hunt", f"storage.path={place}")
        return table(done.stdout)[1][2:5]

    (place / "hunt" / "journal.jsonl").write_text("".join(journal(("t0001", 70.5), ("t0002", 61.25), ("t0003", 99.0))))
    assert state() == ["completed", "61.2", "3/3 trials"]
    experiment = place / "hunt" / "experiment.yaml"
    experiment.write_text(experiment.read_text().replace("  confirm: 0", "  confirm: 1"))
    assert state()[0] == "unfinished"
    (place / "hunt" / "best.json").write_text(json.dumps({"trial": "t0002", "fid": 64.5}))
    assert state()[1] == "64.5"
    experiment.write_text("families: 3\n\nfamilies:")
    assert state()[0] == "damaged"


def test_runs_are_compared_by_what_differs(place, monkeypatch, capsys):
    words = ("runs", "first", "second", f"storage.path={place}")
    done = ganfleet_here(monkeypatch, capsys, *words, "--json", place / "found.json")
    head, *lines = table(done.stdout)
    assert head == ["first", "second"]
    shown = {line[0]: line[1:] for line in lines}
    assert shown["family.n_critic"] == ["2", "3"]
    assert [name for name in shown if "." in name] == ["family.n_critic"], "what is equal is left out"
    assert shown["state"] == ["completed", "unfinished"]
    last = [row for row in rows(place / "first") if "fid" in row][-1]
    assert shown["FID, last"] == [f"{last['fid']:.1f}", "-"]
    assert json.loads((place / "found.json").read_text())["differ"] == ["family.n_critic"]
    done = ganfleet_here(monkeypatch, capsys, "runs", "first", "secnd", f"storage.path={place}")
    assert done.stderr == f"error: no run named 'secnd' in {place}; nearest: second\n"


def test_what_is_removed_is_gone_and_the_rest_stays(place, monkeypatch, capsys):
    (place / "first" / "untracked").write_text("{}")
    where = f"storage.path={place}"
    done = ganfleet_here(monkeypatch, capsys, "runs", "first", "hunt", "--remove", where)
    assert (done.returncode, done.stderr.count("nearest: --yes")) == (2, 1), "nobody can answer"
    with held(place / "hunt" / "driver"):
        done = ganfleet_here(monkeypatch, capsys, "runs", "first", "hunt", "--remove", "--yes", where)
    assert done.returncode == 2
    assert "error: 'hunt' is being played; nearest: wait for its end" in done.stderr
    assert (place / "first").is_dir(), "none is deleted if one cannot be"
    done = ganfleet_here(monkeypatch, capsys, "runs", "first", "hunt", "--remove", "--yes", where)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{place / name} is deleted; its runs, pictures and models in MLflow stay" for name in ("first", "hunt")
    ]
    assert f"to deliver that first: ganfleet sync first {where}" in done.stderr
    assert sorted(path.name for path in place.iterdir()) == ["second"]


def test_a_run_of_a_job_that_has_not_ended_is_not_removed(place, monkeypatch, capsys):
    programs = place / "programs"
    programs.mkdir()
    (programs / "squeue").write_text("#!/bin/sh\necho PENDING\n")
    (programs / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    job = {"name": "second", "to": "slurm", "id": "77", "where": "x", "verb": "train", "attempt": 1, "submitted": "now"}
    (place / "second" / "job.json").write_text(json.dumps(job))
    done = ganfleet_here(monkeypatch, capsys, "runs", "second", "--remove", "--yes", f"storage.path={place}")
    assert done.returncode == 2
    assert "is of the job 77, which has not ended; nearest: ganfleet jobs stop second" in done.stderr
    assert (place / "second" / "metrics.jsonl").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--remove"], "--remove needs a name; nearest: ganfleet runs --remove NAME"),
        (["first", "--yes"], "--yes has no meaning without --remove"),
        (["first", "--remove", "--json", "x"], "--json has no meaning with --remove"),
        (["--json", "none/x"], "there is no such folder"),
    ],
)
def test_options_that_do_not_fit_are_told(place, monkeypatch, capsys, words, said):
    done = ganfleet_here(monkeypatch, capsys, "runs", *words, f"storage.path={place}")
    assert done.returncode == 2
    assert said in done.stderr


def test_runs_in_a_bucket_are_listed_and_removed(place, moto_server, monkeypatch, capsys, tmp_path_factory):
    moto_server.be_asked(monkeypatch)
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path_factory.mktemp("cache")))
    client = boto3.session.Session().client("s3", endpoint_url=moto_server.url)
    client.create_bucket(Bucket="listed")
    for name in ("first", "second"):
        for path in (place / name).rglob("*"):
            if path.is_file():
                client.upload_file(str(path), "listed", f"runs/{path.relative_to(place).as_posix()}")
    where = ("storage.path=s3://listed/runs", f"storage.endpoint_url={moto_server.url}")
    local = ganfleet_here(monkeypatch, capsys, "runs", "first", "second", f"storage.path={place}")
    done = ganfleet_here(monkeypatch, capsys, "runs", "first", "second", *where)
    assert done.returncode == 0, done.stderr
    skipped = ("last written",)
    assert [line for line in table(done.stdout) if line[0] not in skipped] == [
        line for line in table(local.stdout) if line[0] not in skipped
    ]
    done = ganfleet_here(monkeypatch, capsys, "runs", "first", "--remove", "--yes", *where)
    assert done.stdout == "s3://listed/runs/first is deleted; its runs, pictures and models in MLflow stay\n"
    keys = [one["Key"] for one in client.list_objects_v2(Bucket="listed")["Contents"]]
    assert keys
    assert all(key.startswith("runs/second/") for key in keys)
    done = ganfleet_here(monkeypatch, capsys, "runs", *where)
    assert [line[0] for line in table(done.stdout)] == ["name", "second"]
