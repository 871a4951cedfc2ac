"""The list of data sets that can be had on this machine."""

import gzip

import numpy as np
import pytest

from gan_core.data.sets import torchvision_sets
from gan_core.experiment import DATA_NAMES
from pipelines.data.known import known_sets
from tests.gan_core.data.test_torchvision_sets import mnist_files
from tests.gan_core.data.written_files import pictures
from tests.pipelines.small_runs import ganfleet_here


@pytest.fixture
def debian(tmp_path, monkeypatch):
    """Debian's folder, still empty, on a machine that has no other files."""
    place = tmp_path / "share"
    place.mkdir()
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torchvision_sets, "_DEBIAN", {"fashion_mnist": (place, "dataset-fashion-mnist")})
    return place


def test_what_is_here_is_told_with_its_place_and_what_is_not_with_the_way_to_get_it(debian):
    before = {one.name: one for one in known_sets()}
    assert tuple(before) == DATA_NAMES
    assert {name for name, one in before.items() if one.here} == {
        "digits",
        "ring8",
        "grid25",
        "photos",
        "stacked_digits",
    }
    assert before["fashion_mnist"].where.startswith("data.download=true (31 MB), or data.path=FOLDER")
    assert before["fashion_mnist"].where.endswith("apt install dataset-fashion-mnist")
    assert before["npz"].where == "data.path=FILE.npz"
    size = 0
    for name, content in mnist_files(pictures(20, 28, 28)).items():
        packed = gzip.compress(content)
        (debian / f"{name}.gz").write_bytes(packed)
        size += len(packed)
    after = {one.name: one for one in known_sets()}
    for name in ("fashion_mnist", "stacked_fashion_mnist"):
        assert after[name].here
        assert after[name].where == f"{debian}, {np.round(size / 1e6, 1)} MB"
    assert not after["mnist"].here


def test_the_command_prints_a_line_for_each(debian, monkeypatch, capsys):
    done = ganfleet_here(monkeypatch, capsys, "data", "ls")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[: len(DATA_NAMES)]] == list(DATA_NAMES)
    assert lines[0].split()[1] == "here"
    assert lines[DATA_NAMES.index("mnist")].split()[1] == "-"
