"""A run's data are checked and shown before anything is played on them."""

import io
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from gan_core import data
from gan_core.data.dataset import Dataset
from gan_core.experiment import Data
from gan_core.measures import Metrics
from gan_core.settings import SettingsError
from pipelines.evaluate.real_data import data_warnings, real_data
from pipelines.evaluate.reference import prepare_reference
from pipelines.launch._request import train_experiment
from pipelines.runs._folder import RunFolder
from pipelines.search.command import search
from pipelines.train.command import train
from pipelines.train.play import cached_dataset, play
from tests.gan_core.data.written_files import class_folders, pictures, written
from tests.pipelines.small_runs import created, small_search, small_train

QUIET = Console(quiet=True)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pets(tmp_path):
    return class_folders(tmp_path / "pets", cat=pictures(5, 8, 8), dog=pictures(4, 8, 8))


def begun(tmp_path, kind: str, source, *more: str) -> tuple:
    words = (f"data.name={'npz' if source.suffix else 'folder'}", f"data.path={source}", "data.batch_size=4", *more)
    experiment = (
        small_train(tmp_path / "runs", "cgan", "first", *words)
        if kind == "train"
        else small_search(tmp_path / "runs", ["cgan", "cwgan_gp"], "first", *words)
    )
    return experiment, created(experiment)


def printed(experiment, folder) -> list[str]:
    screen = io.StringIO()
    real_data(experiment, folder, Console(file=screen, width=200))
    return [line.strip() for line in screen.getvalue().splitlines()]


def test_a_batch_of_more_than_all_images_is_refused_unless_the_run_began_so(tmp_path, pets):
    experiment, folder = begun(tmp_path, "train", pets)
    larger = experiment.override("data.batch_size=10")
    with pytest.raises(SettingsError, match="data.batch_size=10 is more than the 9 images .*nearest: .*batch_size=9"):
        printed(larger, folder)
    printed(experiment, folder)
    assert "note: data.batch_size=10 is more than the 9 images: a batch holds some twice" in printed(larger, folder)


def test_the_classes_and_what_is_odd_are_shown(tmp_path, pets):
    written(pets / "cat" / "9.png", pictures(1, 8, 8, 3)[0])
    lines = printed(*begun(tmp_path, "train", pets))
    assert [line.partition("data: ")[2] for line in lines[:1]] == ["folder, 10 images of 3x8x8 in 2 classes: cat, dog"]
    assert [line.partition("note: ")[2] for line in lines[1:]] == [
        "9 of 10 images are grey: they have three equal channels here"
    ]


@pytest.mark.parametrize("kind", ["train", "search"])
def test_a_run_goes_on_with_its_data_wherever_they_lie_and_with_no_others(tmp_path, pets, kind):
    experiment, folder = begun(tmp_path, kind, pets)
    printed(experiment, folder)
    moved = shutil.move(pets, tmp_path / "moved")
    printed(experiment.override(f"data.path={moved}"), folder)
    (moved / "dog" / "3.png").unlink()
    (moved / "dog").rename(moved / "wolf")
    with pytest.raises(SettingsError) as caught:
        printed(experiment.override(f"data.path={moved}"), folder)
    line = str(caught.value)
    assert line.startswith(f"data.path={moved}: 'first' began with other data: images 9 -> 8, classes cat, dog -> cat")
    right = line.partition("nearest: the data of before, or ")[2].partition(f": ganfleet {kind} ")[2]
    if kind == "search":
        assert right == "cgan cwgan_gp name=first-2 ..."
        return
    config, file, *words = shlex.split(right)
    assert config == "--config"
    folder.checkpoint(4).mkdir(parents=True)
    with pytest.raises(SettingsError, match=f"from these weights: ganfleet train {right} --init-from first$"):
        printed(experiment.override(f"data.path={moved}"), folder)
    anew = train_experiment([], [*words, f"data.path={moved}"], Path(file).read_text())
    assert anew == experiment.override("name=first-2", f"data.path={moved}")


def test_a_search_on_other_data_plays_no_trial(tmp_path, pets, monkeypatch):
    experiment, folder = begun(tmp_path, "search", pets)
    printed(experiment, folder)
    written(pets / "cat" / "0.png", pictures(1, 8, 8)[0])
    monkeypatch.setattr("pipelines.search._play.cluster", lambda: pytest.fail("a cluster was asked for"))
    with pytest.raises(SettingsError, match=f"data.path={pets}: 'first' began with other data: digest "):
        search(experiment, folder, QUIET)
    assert not (folder.path / "trials").exists()


def test_data_that_ganfleet_makes_have_a_record_too(tmp_path):
    for name in ("ring8", "digits"):
        experiment = small_train(tmp_path / "runs", "gan", name, f"data.name={name}")
        folder = created(experiment)
        (line,) = printed(experiment, folder)
        before = json.loads(folder.data.read_text())
        assert before["digest"] == data.load(experiment.data).digest()
        assert before["class_names"] == (list("0123456789") if name == "digits" else [])
        assert ("in 10 classes" in line) == (name == "digits")
        folder.data.write_text(json.dumps({**before, "digest": "0" * 64}))
        with pytest.raises(SettingsError, match=f"data.name={name}: '{name}' began with other data: digest 0000"):
            printed(experiment, folder)


def test_published_statistics_are_part_of_the_data(tmp_path, pets):
    file = tmp_path / "published.npz"
    words = ("metrics.extractor=pixels", f"metrics.statistics={file}")
    file.write_bytes(b"one")
    experiment, folder = begun(tmp_path, "train", pets, *words)
    printed(experiment, folder)
    file.write_bytes(b"two")
    with pytest.raises(SettingsError, match="other data: metrics.statistics .* -> "):
        printed(experiment, folder)


def test_what_a_family_lacks_is_told_before_anything_starts(tmp_path):
    class_folders(tmp_path, faces=pictures(6, 8, 8))
    np.savez(tmp_path / "faces.npz", images=pictures(6, 8, 8))
    for source, right in (
        (tmp_path / "faces", "a folder for each class in"),
        (tmp_path / "faces.npz", "an array 'lab"),
    ):
        experiment, folder = begun(tmp_path, "search", source)
        with pytest.raises(SettingsError, match=f"cgan needs labels, data.path={source} has one .*nearest: {right}"):
            printed(experiment, folder)
        folder.withdraw()
    labelled = class_folders(tmp_path / "set", a=pictures(3, 8, 8), b=pictures(3, 8, 8))
    experiment = small_train(tmp_path / "runs", "sgan", "few", "data.name=folder", f"data.path={labelled}")
    with pytest.raises(SettingsError, match="family.labelled=100 of 6 images; nearest: family.labelled=6"):
        printed(experiment, created(experiment))
    space = ("data.name=folder", f"data.path={labelled}", "data.batch_size=4", "space.sgan.labelled=randint(2,6)")
    experiment = small_search(tmp_path / "runs", ["sgan"], "searched", *space)
    printed(experiment, created(experiment))


def test_networks_that_cannot_be_built_are_told_before_anything_starts(tmp_path):
    np.savez(tmp_path / "set.npz", images=pictures(120, 8, 8), labels=np.arange(120) % 101)
    experiment = small_train(tmp_path / "runs", "sgan", "many", "data.name=npz", f"data.path={tmp_path / 'set.npz'}")
    with pytest.raises(SettingsError, match="family.labelled=100 leaves some of 101 classes .*family.labelled=101"):
        train(experiment, created(experiment), QUIET, lambda *_: pytest.fail("it is played"))


def test_a_worker_plays_on_the_files_of_its_driver_only(tmp_path, pets):
    experiment, folder = begun(tmp_path, "train", pets, "metrics.extractor=pixels", "budget.rounds=1")
    reference = prepare_reference(experiment.metrics, data.load(experiment.data), tmp_path / "runs", QUIET).content
    moved = shutil.copytree(pets, tmp_path / "on another machine")
    assert list(play(experiment.override(f"data.path={moved}"), folder, reference, None))
    written(moved / "cat" / "0.png", pictures(1, 8, 8)[0])
    cached_dataset.cache_clear()  # as in a process that starts now
    elsewhere = experiment.override(f"data.path={moved}")
    with pytest.raises(SettingsError, match="the files of data.name=folder are others in this process"):
        list(play(elsewhere, folder, reference, None))
    other = prepare_reference(experiment.metrics, data.load(elsewhere.data), tmp_path / "runs", QUIET).content
    assert list(play(elsewhere, folder, other, None))
    assert list(play(experiment, folder, reference, None))


def test_a_process_that_loaded_other_images_before_loads_them_anew(tmp_path, pets):
    experiment, folder = begun(tmp_path, "train", pets, "metrics.extractor=pixels", "budget.rounds=1")
    for image in pictures(2, 8, 8):
        written(pets / "cat" / "0.png", image)
        dataset = data.load(experiment.data)
        reference = prepare_reference(experiment.metrics, dataset, tmp_path / "runs", QUIET).content
        assert list(play(experiment, folder, reference, None))
        assert cached_dataset(experiment.data).digest() == dataset.digest()


def test_measures_on_other_data_than_a_run_had_come_with_a_warning(tmp_path, pets):
    experiment, folder = begun(tmp_path, "train", pets)
    printed(experiment, folder)
    before = data.load(experiment.data)
    written(pets / "cat" / "0.png", pictures(1, 8, 8)[0])
    after = data.load(experiment.data)
    for run in (folder, folder.trial("t0001"), folder.below("confirm").trial("t0001-1")):
        assert data_warnings(run.checkpoint(4), before) == []
        (line,) = data_warnings(run.checkpoint(4), after)
        assert line.startswith("the data are others than the run began with: digest")
    assert data_warnings(RunFolder(tmp_path / "none").checkpoint(4), after) == []


# Degenerate data


def labelled(count: int, classes: int = 2, image: torch.Tensor | None = None) -> Dataset:
    draw = torch.Generator().manual_seed(3)
    images = torch.rand(count, 1, 8, 8, generator=draw) * 2 - 1 if image is None else image.expand(count, 1, 8, 8)
    return Dataset("made", images, torch.arange(count) % classes, classes)


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (labelled(4), "takes 5 labelled images, not 4"),
        (labelled(2), "takes 5 labelled images, not 2"),
        (labelled(30, image=torch.full((1, 8, 8), -1.0)), "all 30 labelled images are equal"),
        (labelled(30, image=torch.linspace(-1, 1, 64).reshape(1, 8, 8)), "all 30 labelled images are equal"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_labelled_images_that_no_classifier_learns_from_are_refused(tmp_path, dataset, said):
    with pytest.raises(SettingsError, match=f"metrics.extractor=auto.*{said}; nearest: metrics.extractor=pixels"):
        prepare_reference(Metrics(), dataset, tmp_path, QUIET)
    prepare_reference(Metrics(extractor="pixels"), dataset, tmp_path, QUIET)


@pytest.mark.parametrize(("count", "classes"), [(30, 30), (400, 2)])
def test_a_classifier_near_chance_is_said(tmp_path, count, classes):
    """Of 400 random images in two classes it names about half rightly, now more and now less."""
    found = prepare_reference(Metrics(), labelled(count, classes), tmp_path, QUIET)
    chance = {30: "3.3%", 2: "50.0%"}[classes]
    assert any(f"rightly, {chance} is by chance" in line and "pixels" in line for line in found.warnings)


@pytest.mark.parametrize(
    ("dataset", "wanted"),
    [
        (labelled(30), []),
        (labelled(6), ["data.batch_size=16 is more than the 6 images: a batch holds some twice"]),
        (labelled(20, image=torch.zeros(1, 8, 8)), ["all 20 images are equal: there is only one to learn"]),
        (labelled(17, classes=9), ["1 of 9 classes have one image to train on: 8"]),
        (labelled(17, classes=20), ["3 of 20 classes have no image to train on: 17, 18, 19", "17 of 20 classes have"]),
    ],
)
def test_what_is_odd_about_data_is_a_line_each(dataset, wanted):
    found = dataset.oddities(16)
    assert len(found) == len(wanted)
    assert all(line.startswith(start) for line, start in zip(found, wanted, strict=True))


def test_points_are_not_odd():
    assert data.load(Data(name="ring8")).oddities(64) == []
