"""The command line: what a dry run prints, what a mistake leaves behind, and commands that look at a run.

`test_golden.py` compares its answers as a whole."""

import getpass
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from gan_core.experiment import Data
from gan_core.family import family_names
from pipelines.launch._request import train_experiment
from pipelines.launch._search_request import search_experiment
from pipelines.runs._folder import RunFolder
from pipelines.settings._experiments import SearchExperiment, TrainExperiment
from tests.golden.commands import furnish
from tests.golden.forks import Answer, forked, snapshot
from tests.pipelines.small_runs import environment, evaluated, ganfleet, ganfleet_here, rows, small_train

WINNER = ("seed=483", "family.lr=0.00012", "family.n_critic=3", "budget.rounds=50")


@pytest.fixture
def place(tmp_path) -> Path:
    furnish(tmp_path / "place")
    return tmp_path / "place"


@pytest.fixture
def dry_run(place, monkeypatch, capsys):
    """The standard output of a dry run in `place`, which it leaves as it was."""
    monkeypatch.chdir(place)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def run(*words: str) -> str:
        before = snapshot(place)
        done = ganfleet_here(monkeypatch, capsys, *words, "--dry-run")
        assert (done.returncode, done.stderr) == (0, "")
        assert snapshot(place) == before
        return done.stdout

    return run


def test_the_process_itself_ends_so(place):
    done = ganfleet(place, "train", "wgan-gp", "lr=fast")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: unknown family 'wgan-gp'; nearest: wgan_gp (known: {', '.join(family_names())});"
        " unknown setting 'lr'; nearest: family.lr\n"
    )


@pytest.mark.parametrize("verb", ["train", "search"])
def test_an_address_of_no_cluster_is_told_before_the_name_is_taken(place, monkeypatch, capsys, verb):
    monkeypatch.chdir(place)
    monkeypatch.setenv("RAY_ADDRESS", "head-node")
    before = snapshot(place)
    for words in ([verb, "wgan", "name=new"], ["submit", "--to", "here", verb, "wgan", "compute.workers=2"]):
        done = ganfleet_here(monkeypatch, capsys, *words)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: RAY_ADDRESS=head-node: this is no address; nearest: ")
    assert snapshot(place) == before


@pytest.fixture
def nobody(monkeypatch):
    """A user without a name, a home folder, and an entry in the system's list of users."""

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME", "GANFLEET_CACHE"):
        monkeypatch.setenv(name, "")
        os.environ.pop(name)


NO_HOME = "there is no home folder for the cache; nearest: GANFLEET_CACHE=FOLDER"


def test_a_user_without_a_home_is_told_where_the_cache_may_be(place, nobody, monkeypatch, capsys):
    monkeypatch.chdir(place)
    done = ganfleet_here(monkeypatch, capsys, "doctor")
    assert done.returncode == 1
    wrong = [line.split(maxsplit=2)[1:] for line in done.stdout.splitlines() if line.startswith("WRONG")]
    assert wrong == [["cache", NO_HOME], ["tracking", NO_HOME]]
    for words in (
        ["train", "wgan", "name=new"],
        ["train", "wgan", "storage.path=s3://b/runs", "tracking.uri=http://host:5000"],
        ["train", "--resume", "first"],
        ["train", "--from-search", "nothing", "tracking.uri=http://host:5000"],
        ["search", "wgan"],
        ["ui", "tracking.uri=sqlite:////none/mlflow.db"],
        ["data", "pack", "~/photos", "there"],
        ["train", "wgan", "data.name=folder", "data.path=~/photos"],
    ):
        done = ganfleet_here(monkeypatch, capsys, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.endswith(f"{NO_HOME}\n") or "there is no such home folder; nearest: " in done.stderr
    assert not (place / "runs" / "new").exists()


@pytest.mark.parametrize("home", ["", "/proc/none"])
def test_a_user_without_a_home_needs_none_with_a_cache(place, nobody, monkeypatch, capsys, home):
    """Libraries ask for the user's name and home. Docker says that the home is /."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", home)
    if not home:
        os.environ.pop("HOME")
    monkeypatch.setenv("GANFLEET_CACHE", "cache")
    assert ganfleet_here(monkeypatch, capsys, "doctor").returncode == 0
    assert getpass.getuser() == f"user-{os.getuid()}"
    assert Path.home() == place / "cache"


def test_a_home_that_cannot_hold_the_cache_is_told(place, nobody, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", "/proc/none")
    done = ganfleet_here(monkeypatch, capsys, "train", "wgan", "name=new")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the home folder /proc/none cannot hold the cache; nearest: GANFLEET_CACHE=FOLDER\n"


def test_a_cache_that_cannot_be_written_is_told(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setenv("GANFLEET_CACHE", "/proc/none")
    done = ganfleet_here(monkeypatch, capsys, "doctor")
    (wrong,) = (line for line in done.stdout.splitlines() if line.startswith("WRONG"))
    assert wrong.split(maxsplit=2)[1] == "cache"
    assert "/proc/none cannot be written to: " in wrong
    assert "nearest: GANFLEET_CACHE=FOLDER" in wrong


@pytest.mark.parametrize(
    "words",
    [
        ["wgan_gp", "name=x", "family.lr=1e-3", "budget.images=500", "compute.workers=2"],
        ["name=x", "--config", "experiment.yaml", "budget.rounds=5"],
        ["gan", "name=x", "storage.path=else where", "compute.workers=64"],
    ],
    ids=" ".join,
)
def test_a_dry_run_of_a_training_prints_it_and_makes_nothing(dry_run, place, words):
    shown = dry_run("train", *words)
    families = [word for word in words if word in ("wgan_gp", "gan")]
    config = (place / "experiment.yaml").read_text() if "--config" in words else ""
    asked = train_experiment(families, [word for word in words if "=" in word], config)
    assert TrainExperiment.from_yaml(shown) == asked


def test_data_may_be_said_in_a_word(dry_run):
    pack = dry_run("train", "wgan_gp", "name=x", "data=s3://bucket/a b")
    assert TrainExperiment.from_yaml(pack).data == Data(name="packed", path="s3://bucket/a b")
    by_name = dry_run("search", "wgan", "name=x", "data=photos")
    assert SearchExperiment.from_yaml(by_name).data.name == "photos"


def test_a_dry_run_from_a_search_prints_its_best_settings_with_what_is_changed(dry_run):
    words = ["name=x", "budget.rounds=900", "compute.workers=2"]
    shown = dry_run("train", "--from-search", "sure", *words)
    asked = small_train(Path("runs"), "wgan_gp", "none", *WINNER).override(*words)
    assert TrainExperiment.from_yaml(shown) == asked


def test_a_dry_run_of_a_search_prints_it_with_what_is_searched(dry_run):
    words = ["wgan", "wgan_gp", "name=x", "family.latent=32", "family.n_critic=2", "search.trials=3"]
    shown = dry_run("search", *words)
    assert SearchExperiment.from_yaml(shown) == search_experiment(words[:2], words[2:])
    comments = [line for line in shown.splitlines() if line.startswith("#")]
    searched = {line.split()[1].rstrip(":") for line in comments if "." in line.split()[1]}
    assert searched == {"wgan.lr", "wgan.clip", "wgan_gp.lr", "wgan_gp.beta1", "wgan_gp.gp_lambda"}


def test_a_mistake_that_is_found_late_leaves_no_run_behind_and_the_users_own_files(place):
    """Whoever named a store that is none types the same command again with a right one. A folder of the run's name may
    have been there before."""
    mine = place / "runs" / "mine"
    mine.mkdir()
    (mine / "photo.png").write_text("precious")
    uri = f"sqlite:///{place}/broken.yaml"
    done = ganfleet(place, "train", "wgan", "name=mine", "metrics.extractor=pixels", f"tracking.uri={uri}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: tracking.uri={uri}: cannot be opened")
    assert snapshot(mine) == {"photo.png": b"precious"}


# Commands that look at a run


def test_evaluate_prints_and_writes_what_the_library_says(played, storage, tmp_path):
    done = ganfleet(tmp_path, "evaluate", "played", f"storage.path={storage}", "--json", "fid.json")
    assert (done.returncode, done.stderr) == (0, "")
    written = json.loads((tmp_path / "fid.json").read_text())
    assert written == evaluated(played.folder.checkpoint(12), storage)
    assert written["fid"] == rows(played.folder.path)[-1]["fid"]
    printed = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert printed.keys() == written.keys() - {"warnings"}
    assert float(printed["fid"]) == pytest.approx(written["fid"], abs=1e-4)
    assert printed["checkpoint"] == str(played.folder.checkpoint(12))


LOOKING = {
    "sample played --count 5 --out new/five.png": "",
    "sample played": "",
    "sample played --label 3": "nearest: no --label",
    "sample played --out grid.jpg": "nearest: --out grid.png",
    "evaluate played --json nowhere/fid.json": "--json",
    "evaluate damaged": "sha256",
    "sample damaged": "sha256",
}
"""Commands that look at a run, with the mistake that only the run shows; empty if there is none."""


@pytest.fixture(scope="module")
def looks(played, storage, tmp_path_factory) -> dict[str, tuple[Path, Answer]]:
    damaged = RunFolder(storage / "damaged")
    path = damaged.checkpoint(12)
    path.mkdir(parents=True)
    damaged.experiment.write_bytes(played.folder.experiment.read_bytes())
    (path / "checkpoint.json").write_bytes((played.folder.checkpoint(12) / "checkpoint.json").read_bytes())
    (path / "state.safetensors").write_bytes(b"cut off")
    places = [tmp_path_factory.mktemp("look") / "place" for _ in LOOKING]
    for place in places:
        place.mkdir()
    words = [[*line.split(), f"storage.path={storage}"] for line in LOOKING]
    imported = ("pipelines.evaluate.command", "sklearn.datasets", "torch._dynamo")
    found = forked(list(zip(places, words, strict=True)), environment(), imported)
    return dict(zip(LOOKING, zip(places, found, strict=True), strict=True))


@pytest.mark.parametrize("words", [words for words, mistake in LOOKING.items() if mistake])
def test_a_mistake_that_takes_the_run_to_see_is_one_line_too(looks, words):
    assert LOOKING[words] in looks[words][1].mistake()


def test_sample_draws_as_many_as_asked_for(looks):
    place, answer = looks["sample played --count 5 --out new/five.png"]
    assert (answer.code, answer.out.split(), answer.err) == (0, ["new/five.png"], "")
    assert Image.open(place / "new" / "five.png").size == (3 * 50 + 2, 2 * 50 + 2)


def test_the_samples_are_those_of_the_runs_own_pictures(looks, played):
    place, answer = looks["sample played"]
    assert answer.code == 0
    assert (place / "samples.png").read_bytes() == played.folder.pictures()[-1].read_bytes()
