"""What is checked of the data before torch and Ray are imported, and the size that follows from the files."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from gan_core import data
from gan_core.experiment import Data
from gan_core.settings import SettingsError
from pipelines.launch._data import _BUILT_IN, find_data, sized_as, with_data
from pipelines.launch._request import train_experiment
from pipelines.launch._search_request import search_experiment
from pipelines.settings import Storage
from tests.golden.commands import environment_of, furnish
from tests.golden.forks import Answer, forked


def pictures(folder: Path, *sizes: tuple[int, int]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, size in enumerate(sizes):
        Image.new("RGB", size, (number, 0, 0)).save(folder / f"{number:03d}.png")
    return folder


def asked(path: Path, *words: str, name: str = "folder"):
    return train_experiment(["dcgan"], [f"data.name={name}", f"data.path={path}", "data.batch_size=2", *words])


# The size


@pytest.mark.parametrize(
    ("sizes", "size"),
    [
        ([(70, 90), (200, 66), (65, 65)], 64),
        ([(63, 300)] * 3, 32),
        ([(28, 28)] * 3, 28),
        ([(31, 40)] * 3, 28),
        ([(5, 5)] * 3, 8),
        ([(2000, 1000)] * 3, 256),
        ([(20, 20), (20, 20), (500, 500)], 16),
    ],
)
def test_the_size_is_the_largest_up_to_the_median_of_the_shorter_sides(tmp_path, sizes, size):
    experiment, (note,) = with_data(asked(pictures(tmp_path / "set", *sizes)))
    assert experiment.data.image_size == size
    assert note.startswith(f"data.image_size={size}, ")
    assert yaml.safe_load(experiment.to_yaml())["data"]["image_size"] == size


def test_a_search_has_the_size_of_the_files_too(tmp_path):
    folder = pictures(tmp_path / "set", *[(40, 50)] * 4)
    words = ["data.name=folder", f"data.path={folder}", "data.batch_size=2"]
    experiment, _ = with_data(search_experiment(["gan", "wgan"], words))
    assert experiment.data.image_size == 32
    assert experiment.trial({"name": "wgan", "lr": 1e-3}).data.image_size == 32


def test_a_size_that_is_given_stays(tmp_path):
    experiment, notes = with_data(asked(pictures(tmp_path / "set", *[(80, 80)] * 3), "data.image_size=16"))
    assert (experiment.data.image_size, notes) == (16, ())


def test_data_of_ganfleet_keep_their_size():
    experiment, notes = with_data(train_experiment(["dcgan"], ["data.name=photos"]))
    assert (experiment.data.image_size, notes) == (16, ())


def test_files_that_cannot_be_read_do_not_decide(tmp_path):
    folder = pictures(tmp_path / "set", *[(40, 40)] * 3)
    (folder / "bad.png").write_bytes(b"no picture")
    assert with_data(asked(folder))[0].data.image_size == 32


@pytest.mark.parametrize("shape", [(6, 50, 34), (6, 50, 34, 3), (6, 3, 50, 34)])
def test_the_header_of_an_npz_file_has_the_size_and_the_number(tmp_path, shape):
    np.savez(tmp_path / "set.npz", images=np.zeros(shape, np.uint8), labels=np.arange(6))
    found = find_data(Data(name="npz", path=tmp_path / "set.npz"), Storage())
    assert (found.images, found.classes, list(found.sides)) == (6, None, [34])
    assert with_data(asked(tmp_path / "set.npz", name="npz"))[0].data.image_size == 32


def test_an_earlier_size_is_taken_only_where_the_files_would_decide(tmp_path):
    folder = pictures(tmp_path / "set", (9, 9))
    assert sized_as(asked(folder), 64).data.image_size == 64
    assert sized_as(asked(folder, "data.image_size=32"), 64).data.image_size == 32
    assert sized_as(train_experiment(["dcgan"], []), 64).data.image_size == 16


# The number


@pytest.mark.parametrize("name", _BUILT_IN)
def test_the_numbers_of_the_sets_without_files_are_right(name):
    dataset = data.load(Data(name=name))
    assert (len(dataset.images), dataset.classes) == _BUILT_IN[name]


@pytest.mark.parametrize(
    ("words", "right"),
    [
        (["data.batch_size=12"], "data.batch_size=10"),
        (["data.batch_size=12", "compute.workers=4"], "data.batch_size=8"),
        (["data.batch_size=10", "data.held_out=0.2"], "data.batch_size=8"),
    ],
)
def test_a_batch_of_more_than_all_images_is_refused(tmp_path, words, right):
    folder = pictures(tmp_path / "set", *[(8, 8)] * 10)
    with pytest.raises(SettingsError) as caught:
        with_data(asked(folder, *words))
    assert str(caught.value).endswith(f"; nearest: {right}")
    assert with_data(asked(folder, *words, right))[0].data.image_size == 8


def test_the_largest_batch_of_a_search_counts(tmp_path):
    folder = pictures(tmp_path / "set", *[(8, 8)] * 10)
    words = ["data.name=folder", f"data.path={folder}", "data.image_size=8"]
    with pytest.raises(SettingsError, match="data.batch_size=16 is more than the 10 images"):
        with_data(search_experiment(["gan"], ["space.data.batch_size=choice(4,16)", *words]))
    few = ["space.data.batch_size=choice(4,8)", *words]
    _, (note,) = with_data(search_experiment(["gan"], few))
    assert note == "trials of larger batches see more images; budget.images=4000 compares them at equal numbers"
    assert with_data(search_experiment(["gan"], [*few, "budget.images=4000"]))[1] == ()


def test_classes_without_images_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path / "cache"))
    for name in ("cats", "dogs"):
        pictures(tmp_path / "set" / name, (8, 8), (8, 8))
    for name in ("birds", ".hidden"):
        (tmp_path / "set" / name).mkdir()
    dataset = data.load(Data(name="folder", path=tmp_path / "set", image_size=8))
    assert dataset.class_names == ("cats", "dogs")
    (note,) = dataset.notes
    assert note == f"no image in birds of {tmp_path / 'set'}: no class of that name"
    assert data.load(Data(name="folder", path=tmp_path / "set", image_size=8)).notes == dataset.notes  # from the cache


# Before torch and Ray


@pytest.fixture(scope="module")
def silent() -> Iterator[int]:
    """A port that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


LATE = {
    "train dcgan name=x data=folder data.path=no-such-place": "data.path: PLACE/no-such-place does not exist",
    "train dcgan name=x data=folder data.path=picturse": "does not exist; nearest: PLACE/pictures",
    "train dcgan name=x data=folder data.path=empty": "no image in PLACE/empty",
    "train dcgan name=x data=folder data.path=torn": "PLACE/torn/away is a link to nowhere",
    "train dcgan name=x data=npz data.path=nothing.npz": "data.path=PLACE/nothing.npz is no file",
    "train dcgan name=x data=packed data.path=empty": "has no manifest.json",
    "train dcgan name=x data=mnist": "data.name=mnist: there is no ",
    "search dcgan name=x data=cifar10 data.path=empty": "data.name=cifar10: there is no PLACE/empty",
    "train cgan name=x data=folder data.path=pictures data.batch_size=2": "cgan needs labels",
    "train dcgan name=x data=folder data.path=pictures": "data.batch_size=64 is more than the 3 images",
    "search wgan name=x data.batch_size=1800": "data.batch_size=1800 is more than the 1797 images",
    "train wgan name=x data.batch_size=1800 --dry-run": "data.batch_size=1800 is more than the 1797 images",
    "train sgan name=x family.labelled=1798": "family.labelled=1798 of 1797 images",
    "train wgan name=x tracking.uri=http://127.0.0.1:9": "no MLflow server answers: Connection refused",
    "search wgan name=x tracking.uri=http://127.0.0.1:9": "no MLflow server answers: Connection refused",
}


@pytest.fixture(scope="module")
def answered(tmp_path_factory) -> dict[str, tuple[Answer, Path]]:
    place = tmp_path_factory.mktemp("late") / "place"
    furnish(place)
    pictures(place / "pictures", *[(9, 9)] * 3)
    (place / "torn").mkdir()
    (place / "torn" / "away").symlink_to("nowhere")
    said = forked([(place, line.split()) for line in LATE], environment_of(place.parent))
    return {line: (answer, place) for line, answer in zip(LATE, said, strict=True)}


@pytest.mark.parametrize("line", LATE)
def test_what_needs_neither_torch_nor_ray_is_refused_before_they_are_imported(answered, line):
    answer, place = answered[line]
    assert LATE[line] in answer.mistake().replace(str(place), "PLACE")
    assert not {"torch", "ray", "mlflow"} & {*answer.loaded}


def test_a_server_that_says_nothing_is_waited_for_with_a_word(tmp_path, silent):
    furnish(tmp_path / "place")
    line = ["train", "wgan", "name=x", f"tracking.uri=http://127.0.0.1:{silent}"]
    (answer,) = forked([(tmp_path / "place", line)], {**environment_of(tmp_path), "no_proxy": "*"})
    waiting, refused = answer.err.splitlines()
    assert waiting == f"waiting for http://127.0.0.1:{silent} to answer, 5 s at most"
    assert refused.endswith("no MLflow server answers: no answer within 5 s")
    assert (answer.out, answer.changed, answer.loaded) == ("", [], [])


def test_a_dry_run_says_what_is_not_there_and_prints_the_settings(tmp_path):
    furnish(tmp_path / "place")
    pictures(tmp_path / "place" / "pictures", *[(70, 70)] * 3)
    lines = [
        ["train", "dcgan", "data=folder", "data.path=pictures", "data.batch_size=2", "--dry-run"],
        ["train", "dcgan", "data=folder", "data.path=none", "--dry-run"],
    ]
    there, absent = forked([(tmp_path / "place", line) for line in lines], environment_of(tmp_path))
    assert yaml.safe_load(there.out)["data"]["image_size"] == 64
    assert "# data.image_size=64, as the images' shorter sides have a median of 70 pixels" in there.out.splitlines()
    assert "# as things are, it would not start: data.path: " in absent.out
    assert yaml.safe_load(absent.out)["data"]["path"] == os.path.join(tmp_path, "place", "none")
