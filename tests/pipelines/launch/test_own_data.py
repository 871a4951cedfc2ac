"""A data set that is a function of the user's: called once a command, kept as a pack, the same game as from a file."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import invalidate_caches
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from gan_core import data, settings
from gan_core.experiment import Data, Experiment
from gan_core.loop import Game, rounds
from gan_core.settings import SettingsError
from pipelines.data.fetch import local_data
from pipelines.evaluate.real_data import real_data
from pipelines.launch import CommandLine, ready, search_request, train_request
from pipelines.launch._data import as_found
from pipelines.launch._resume import resumed_train
from pipelines.runs import DataRecord
from tests.gan_core.data.written_files import pictures
from tests.gan_core.games import state
from tests.golden.commands import environment_of, furnish
from tests.golden.forks import forked
from tests.pipelines.small_runs import created, ganfleet_here

IMAGES, LABELS = pictures(40, 16, 24, 3), np.arange(40) % 4
CODE = """
from pathlib import Path
import numpy as np

FOLDER = Path(__file__).parent

def load():
    with (FOLDER / "calls").open("a") as file:
        file.write("x")
    kept = np.load(FOLDER / "kept.npz")
    return kept["images"] / np.float32(255), kept["labels"]

def few():
    return load()[0][:3]

def broken():
    return load()["images"]

def sized(size, flip=False):
    return load()

def strange():
    return {"images": load()[0]}

def nothing():
    pass

as_it_is = np.load(FOLDER / "kept.npz")["images"]
"""
SMALL = ("family.width=4", "family.latent=8", "data.batch_size=8")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package whose functions read a file, so that their images can change; `faces` is an entry point."""
    settings.installed.cache_clear()
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "site"
    (root / "faraway").mkdir(parents=True)
    (root / "faraway" / "__init__.py").write_text("")
    (root / "faraway" / "sets.py").write_text(CODE)
    np.savez(root / "faraway" / "kept.npz", images=IMAGES, labels=LABELS)
    about = root / "faraway-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: faraway\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[ganfleet.datasets]\nfaces = faraway.sets:load\n")
    monkeypatch.syspath_prepend(root)
    invalidate_caches()
    yield root / "faraway"
    for name in [name for name in sys.modules if name.partition(".")[0] == "faraway"]:
        del sys.modules[name]
    settings.installed.cache_clear()


def calls(package: Path) -> int:
    return len((package / "calls").read_text()) if (package / "calls").exists() else 0


def asked(tmp_path: Path, *words: str, family: str = "dcgan"):
    return train_request(CommandLine.of([family, *SMALL, f"storage.path={tmp_path / 'runs'}", *words], None, None))


def test_the_game_is_that_of_the_same_images_in_a_file(package, tmp_path):
    """With held-out images, to the last bit of the weights."""
    words = ["data.held_out=0.2", "data.flip=true"]
    own = ready(asked(tmp_path, "data=faraway.sets:load", *words))
    assert own.notes == ("data.image_size=16x24, as faraway.sets:load has it",)
    path = f"data.path={package / 'kept.npz'}"
    file = ready(asked(tmp_path, "data=npz", path, "data.image_size=16x24", *words))
    loaded = [data.load(local_data(one.experiment.data, one.experiment.storage)) for one in (own, file)]
    assert loaded[0].digest() == loaded[1].digest()
    assert loaded[0].held_out is not None
    assert loaded[0].held_out[:].equal(loaded[1].held_out[:])
    assert loaded[0].class_names == ("0", "1", "2", "3")
    weights = []
    for request, dataset in zip((own, file), loaded, strict=True):
        game = Game(request.experiment, dataset.shape, classes=dataset.classes)
        list(islice(rounds(game, dataset.images, dataset.labels), 2))
        weights.append(state(game))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("name", ["faraway.sets:load", "faces"])
def test_workers_trials_and_later_commands_do_not_call_it(package, tmp_path, name):
    line = ["dcgan", "wgan", f"data.name={name}", *SMALL, f"storage.path={tmp_path / 'runs'}"]
    search = ready(search_request(CommandLine.of(line, None, None))).experiment
    trial = search.trial({"name": "wgan", "lr": 1e-3})
    assert calls(package) == 1
    sys.modules.pop("faraway.sets")
    (package / "sets.py").unlink()
    written = Experiment.load({key: trial.model_dump(mode="json")[key] for key in ("family", "data")})
    dataset = data.load(local_data(written.data, trial.storage))
    assert (dataset.shape, len(dataset.images)) == ((3, 16, 24), 40)
    assert written.data.name == name
    assert trial.data.path == search.data.path
    assert Path(str(search.data.path)).parent == tmp_path / "runs" / "packs"


def test_a_run_is_resumed_on_the_same_images_only(package, tmp_path):
    request = ready(asked(tmp_path, "name=one", "data=faraway.sets:load"))
    folder, quiet = created(request.experiment), Console(quiet=True)
    real_data(request.experiment, folder, quiet)

    def again():
        experiment, found = resumed_train("one", [f"storage.path={tmp_path / 'runs'}"])
        return ready(replace(request, experiment=experiment, folder=found, resumed=True)).experiment

    assert again() == request.experiment
    np.savez(package / "kept.npz", images=IMAGES[::-1], labels=LABELS)
    with pytest.raises(SettingsError, match=r"^data.name=faraway.sets:load: 'one' began with other data: digest"):
        real_data(again(), folder, quiet)
    np.savez(package / "kept.npz", images=IMAGES[:20], labels=LABELS[:20])
    with pytest.raises(SettingsError, match="images 40 -> 20"):
        real_data(again(), folder, quiet)
    record = DataRecord.read(folder)
    assert record is not None
    assert record.images == 40


def test_a_command_that_is_typed_again_is_about_the_same_data(package, tmp_path):
    before = ready(asked(tmp_path, "data=faraway.sets:load")).experiment
    typed = asked(tmp_path, "data=faraway.sets:load").experiment
    assert as_found(typed, before.data).data == before.data
    other = asked(tmp_path, "data=faraway.sets:few").experiment
    assert as_found(other, before.data).data.path is None
    assert calls(package) == 1


def test_images_are_cut_to_the_size_that_is_asked_for(package, tmp_path):
    request = ready(asked(tmp_path, "data=faraway.sets:as_it_is", "data.image_size=8"))
    assert (request.experiment.data.image_size, request.notes) == (8, ())
    np.savez(tmp_path / "set.npz", images=IMAGES)
    file = Data(name="npz", path=tmp_path / "set.npz", image_size=8)
    assert (
        data.load(local_data(request.experiment.data, request.experiment.storage)).digest() == data.load(file).digest()
    )


def test_gan_core_alone_calls_it_each_time(package):
    for name, held_out in (("faraway.sets:load", 0.25), ("faces", 0.0)):
        dataset = data.load(Data(name=name, held_out=held_out))
        assert (dataset.shape, len(dataset.images)) == ((3, 16, 24), 40 - held_out * 40)
    assert calls(package) == 2
    assert data.load(Data(name="faces", image_size=8)).shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data=faraway.sets:lod"], "data.name=faraway.sets:lod: faraway.sets has no 'lod'; nearest: load"),
        (["data=faraway.set:load"], "data.name=faraway.set:load: Python finds no module 'faraway.set' here"),
        (["data=fases"], "unknown data.name 'fases'; nearest: faces"),
        (["data=faraway.sets:broken"], r"data.name=faraway.sets:broken raises TypeError: .* \(sets.py:17\)"),
        (["data=faraway.sets:sized"], "data.name=faraway.sets:sized needs arguments: size; nearest: a function"),
        (["data=faraway.sets:strange"], r"data.name=faraway.sets:strange is dict of images; nearest: its part \['im"),
        (["data=faraway.sets:nothing"], "data.name=faraway.sets:nothing is None; nearest: a tensor or an array"),
        (["data=faraway.sets:few"], "data.batch_size=8 is more than the 3 images to train on"),
        (["data=faraway.sets:load", "data.max_bad=2"], "data.max_bad=2: faraway.sets:load has no files"),
        (["data=faraway.sets:load", "data.download=true"], "data.download=true: faraway.sets:load cannot be fetched"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_setting(package, tmp_path, words, said):
    with pytest.raises(SettingsError, match=f"^{said}") as error:
        ready(asked(tmp_path, *words))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs" / "dcgan").exists()


def test_a_family_of_labels_asks_for_them(package, tmp_path):
    with pytest.raises(SettingsError, match=r"only; nearest: faraway.sets:as_it_is that returns \(images, labels"):
        ready(asked(tmp_path, "data=faraway.sets:as_it_is", family="cgan"))
    assert ready(asked(tmp_path, "data=faraway.sets:load", family="cgan")).experiment.family.name == "cgan"


def test_a_dry_run_calls_nothing_and_imports_no_torch(tmp_path):
    furnish(tmp_path / "place")
    (tmp_path / "place" / "sets.py").write_text("def load():\n    raise SystemError\n")
    lines = [
        ["train", "dcgan", "data=sets:load", "--dry-run"],
        ["train", "dcgan", "data=sets:lod", "--dry-run"],
        ["train", "dcgan", "data=sets:load"],
    ]
    there, absent, raised = forked([(tmp_path / "place", line) for line in lines], environment_of(tmp_path))
    assert yaml.safe_load(there.out)["data"]["name"] == "sets:load"
    assert "# data.image_size follows from the images of sets:load" in there.out.splitlines()
    assert "data.name=sets:lod: sets has no 'lod'; nearest: load" in absent.err
    assert "data.name=sets:load raises SystemError:" in raised.err
    assert there.loaded == absent.loaded == raised.loaded == []


def test_its_pack_can_be_written_by_hand(package, tmp_path, monkeypatch, capsys):
    ended = ganfleet_here(monkeypatch, capsys, "data", "pack", "faraway.sets:load", tmp_path / "pack")
    assert ended.returncode == 0, ended.stderr
    own = ready(asked(tmp_path, "data=faraway.sets:load")).experiment
    written = Path(str(own.data.path)) / "manifest.json"
    assert (tmp_path / "pack" / "manifest.json").read_bytes() == written.read_bytes()
