"""`data.json`: what a run's data were when it began, and what is said if they are others."""

import json

import pytest
import torch

from gan_core.data.dataset import Dataset
from gan_core.settings import SettingsError
from pipelines.runs import DataRecord, RunFolder, named_classes


def dataset(count: int = 6, held_out: int = 2, names: tuple[str, ...] = ("cat", "dog"), bright: float = 0) -> Dataset:
    images = torch.full((count, 1, 4, 4), bright)
    return Dataset(
        "folder", images, torch.arange(count) % 2, 2, None, torch.zeros(held_out, 1, 4, 4), class_names=names
    )


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path / "first")
    folder.create("family:\n  name: cgan\n")
    return folder


def keep(folder: RunFolder, data: Dataset, **files) -> None:
    DataRecord.of(data, files).keep(folder, "data.path=/photos", lambda: "a run of another name")


def test_a_record_is_json_and_is_read_back(folder):
    keep(folder, dataset())
    written = json.loads((folder.path / "data.json").read_text())
    assert written["digest"] == dataset().digest()
    assert (written["images"], written["held_out"], written["shape"]) == (6, 2, [1, 4, 4])
    assert (written["classes"], written["class_names"]) == (2, ["cat", "dog"])
    assert DataRecord.read(folder) == DataRecord.of(dataset(), {})
    before = folder.data.stat().st_mtime_ns
    keep(folder, dataset())
    assert folder.data.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (dict(count=5), ["images 6 -> 5"]),
        (dict(held_out=1), ["held-out images 2 -> 1"]),
        (dict(bright=0.5), []),
        (dict(names=("cat", "fox")), ["classes cat, dog -> cat, fox"]),
    ],
)
def test_other_data_are_refused_with_what_changed(folder, other, said):
    keep(folder, dataset())
    with pytest.raises(SettingsError) as caught:
        keep(folder, dataset(**other))
    line = str(caught.value)
    assert line.startswith("data.path=/photos: 'first' began with other data: ")
    assert line.endswith("; nearest: the data of before, or a run of another name")
    before, after = dataset().digest(), dataset(**other).digest()
    assert all(part in line for part in said)
    assert (f"digest {before[:12]} -> {after[:12]}" in line) == (before != after)


def test_a_file_of_the_metrics_is_part_of_the_data(folder, tmp_path):
    file = tmp_path / "statistics.npz"
    file.write_bytes(b"one")
    keep(folder, dataset(), **{"metrics.statistics": file, "metrics.weights": None})
    moved = file.rename(tmp_path / "moved.npz")
    keep(folder, dataset(), **{"metrics.statistics": moved})
    moved.write_bytes(b"two")
    with pytest.raises(SettingsError, match="other data: metrics.statistics [0-9a-f]{12} -> [0-9a-f]{12};"):
        keep(folder, dataset(), **{"metrics.statistics": moved})
    with pytest.raises(SettingsError, match=f"metrics.statistics={tmp_path / 'gone'}: No such file"):
        keep(folder, dataset(), **{"metrics.statistics": tmp_path / "gone"})


def test_a_run_without_a_record_gets_one_and_names_may_come_later(folder):
    assert DataRecord.read(folder) is None
    keep(folder, dataset(names=()))
    keep(folder, dataset())
    assert DataRecord.read(folder) == DataRecord.of(dataset(names=()), {})


def test_a_damaged_record_is_told(folder):
    for text in ("{", "[]", "{}", '{"shape": [], "class_names": [], "else": 1}'):
        folder.data.write_text(text)
        with pytest.raises(SettingsError, match=f"{folder.data} is damaged.*nearest: rm {folder.data}"):
            keep(folder, dataset())


def test_a_record_goes_with_its_run(folder):
    keep(folder, dataset())
    folder.withdraw()
    assert not folder.path.exists()
    folder.path.mkdir()
    folder.data.write_text("of another run")
    folder.create("family:\n  name: cgan\n")
    assert DataRecord.read(folder) is None


def test_many_names_are_shortened():
    assert named_classes(["b", "a"]) == "b, a"
    names = [str(number) for number in range(100)]
    assert named_classes(names) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ..., 99"
    assert named_classes(names[:12]) == ", ".join(names[:12])


def test_what_is_shown_and_tagged():
    record = DataRecord.of(dataset(), {})
    assert str(record) == "6 images of 1x4x4 and 2 held out in 2 classes: cat, dog"
    assert record.tags == {
        "ganfleet.data.digest": dataset().digest()[:16],
        "ganfleet.data.images": "6",
        "ganfleet.data.classes": "cat, dog",
    }
    assert str(DataRecord.of(dataset(held_out=0, names=()), {})) == "6 images of 1x4x4"
