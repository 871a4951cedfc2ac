"""The decode cache: images are decoded once, by one process, and again if anything has changed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from gan_core import data
from gan_core.data import decode_cache
from gan_core.data.dataset import Dataset
from gan_core.experiment import Data
from gan_core.settings import SettingsError
from tests.gan_core.data.written_files import class_folders, found, pictures, wanted, written

IMAGES = pictures(6, 8, 8, 3)


@pytest.fixture
def root(tmp_path) -> Path:
    return class_folders(tmp_path / "set", a=IMAGES[:3], b=IMAGES[3:])


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """The indices of all decoded images."""
    indices: list[int] = []
    prepared = decode_cache._prepared

    def counted(opened, index, size):
        indices.append(index)
        return prepared(opened, index, size)

    monkeypatch.setattr(decode_cache, "_prepared", counted)
    return indices


def load(root: Path, size: int = 8, **settings) -> Dataset:
    return data.load(Data(name="folder", path=root, image_size=size, **settings), root.parent / "cache")


def entries(root: Path) -> list[Path]:
    return sorted(path for path in (root.parent / "cache" / "decoded").iterdir() if path.is_dir())


def test_images_are_decoded_once(root, decoded):
    first = load(root)
    assert sorted(decoded) == list(range(6))
    again = load(root)
    assert len(decoded) == 6
    assert first.digest() == again.digest()
    assert torch.equal(first.labels, again.labels)
    load(root, held_out=0.5)
    assert len(decoded) == 6


def test_images_are_mapped_and_the_file_stays_as_it_is(root):
    loaded = load(root)
    (entry,) = entries(root)
    maps = Path("/proc/self/maps").read_text()
    assert str(entry / decode_cache.IMAGES) in maps
    loaded.images.stored.fill_(0)
    assert found(load(root)) == wanted(IMAGES, [0, 0, 0, 1, 1, 1])


def test_a_stored_file_is_plain_numpy(root):
    load(root)
    (entry,) = entries(root)
    stored = np.load(entry / decode_cache.IMAGES)
    assert (stored.dtype, stored.shape) == (np.uint8, (6, 3, 8, 8))
    assert np.load(entry / decode_cache.LABELS).tolist() == load(root).labels.tolist()


CHANGES = {
    "another image": lambda root: written(root / "a" / "0.png", pictures(1, 8, 8, 3)[0]),
    "one more": lambda root: shutil.copy(root / "a" / "0.png", root / "a" / "9.png"),
    "one less": lambda root: (root / "a" / "0.png").unlink(),
    "another class": lambda root: (root / "a").rename(root / "c"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_folder_is_decoded_anew(root, decoded, change):
    before = load(root)
    decoded.clear()
    CHANGES[change](root)
    after = load(root)
    assert len(decoded) == len(after.images)
    assert before.digest() != after.digest()


def test_another_time_of_a_file_changes_nothing(root, decoded):
    before = load(root)
    path = root / "a" / "0.png"
    time = path.stat().st_mtime_ns + 1_000_000
    os.utime(path, ns=(time, time))
    assert load(root).digest() == before.digest()
    assert len(decoded) == 6


def test_another_size_is_another_entry(root, decoded):
    assert [load(root, size).shape for size in (8, 16, 8, 16)] == [(3, 8, 8), (3, 16, 16)] * 2
    assert len(decoded) == 12
    assert len(entries(root)) == 2


@pytest.mark.parametrize("size", [(8, 8), (8, 12), (24, 10), (9, 31)])
@pytest.mark.parametrize("sides", [(40, 40), (61, 23), (17, 90)])
def test_the_middle_is_cut_out_and_resized(tmp_path, size, sides):
    """Against Pillow's own `ImageOps.fit`, whose cut has fractions of pixels: they differ by less than a pixel."""
    rows, columns = np.meshgrid(*(np.linspace(0, 255, side) for side in sides), indexing="ij")
    smooth = Image.fromarray(np.stack([rows, columns, 255 - rows], axis=2).astype(np.uint8))
    folder = class_folders(tmp_path / "set", a=[np.asarray(smooth)] * 2)
    settings = Data(name="folder", path=folder, image_size="x".join(map(str, size)))
    assert settings.size == size
    loaded = data.load(settings, tmp_path / "cache")
    assert loaded.shape == (3, *size)
    fitted = np.asarray(ImageOps.fit(smooth, size[::-1], Image.Resampling.BICUBIC)).astype(int)
    decoded_ = loaded.images.stored[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(decoded_ - fitted).max() < 20
    assert np.abs(decoded_[::-1] - fitted).max() > 20


def test_a_square_has_one_name():
    for written_ in (48, "48", "48x48"):
        assert Data(image_size=written_) == Data(image_size=48)
    assert Data.load({"image_size": "64x128"}).model_dump(mode="json")["image_size"] == "64x128"


def test_a_changed_program_decodes_anew(root, decoded, monkeypatch):
    load(root)
    monkeypatch.setattr(decode_cache, "_code", lambda: "another")
    load(root)
    assert len(decoded) == 12


@pytest.mark.parametrize("name", [decode_cache.IMAGES, decode_cache.LABELS, decode_cache.ABOUT])
@pytest.mark.parametrize("kept", [0, 100, None])
def test_a_damaged_entry_is_made_anew(root, decoded, name, kept):
    load(root)
    (entry,) = entries(root)
    content = (entry / name).read_bytes()
    if kept is None:
        (entry / name).unlink()
    else:
        (entry / name).write_bytes(content[: min(kept, len(content) - 1)])
    assert found(load(root)) == wanted(IMAGES, [0, 0, 0, 1, 1, 1])
    assert len(decoded) == 12
    assert (entry / name).read_bytes() == content


def test_an_interruption_leaves_nothing_behind(root, monkeypatch):
    def interrupted(opened, index, size):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(decode_cache, "_prepared", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load(root)
    assert entries(root) == []
    assert len(load(root).images) == 6


def test_what_a_killed_process_left_is_cleared(root):
    load(root)
    (entry,) = entries(root)
    part = entry.rename(entry.with_name(f".{entry.name}.part"))
    assert len(load(root).images) == 6
    assert not part.exists()


def test_bad_files_are_remembered(root, decoded):
    (root / "b" / "1.png").write_bytes(b"")
    for max_bad in (0, 1, 0):
        if max_bad == 1:
            assert len(load(root, max_bad=1).images) == 5
        else:
            with pytest.raises(SettingsError, match="1 of 6 .*b/1.png.*nearest: data.max_bad=1"):
                load(root, max_bad=max_bad)
    assert len(decoded) == 6
    (entry,) = entries(root)
    assert len(json.loads((entry / decode_cache.ABOUT).read_text())["bad"]) == 1


def test_the_cache_is_where_the_environment_says(root, monkeypatch, tmp_path):
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path / "elsewhere"))
    data.load(Data(name="folder", path=root, image_size=8))
    assert len(list((tmp_path / "elsewhere" / "decoded").glob("folder-8-*"))) == 1
    monkeypatch.delenv("GANFLEET_CACHE")
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    data.load(Data(name="folder", path=root, image_size=8))
    assert len(list((tmp_path / "home" / ".cache" / "ganfleet" / "decoded").glob("folder-8-*"))) == 1


def test_a_cache_that_cannot_be_written_is_told(root):
    (root.parent / "cache").write_text("a file")
    with pytest.raises(SettingsError, match=f"{root.parent / 'cache'}.*nearest: GANFLEET_CACHE="):
        load(root)


PROGRAM = """
import sys, time
from pathlib import Path
from gan_core import data
from gan_core.data import decode_cache
from gan_core.experiment import Data

root, mine, other = map(Path, sys.argv[1:])
prepared, count = decode_cache._prepared, 0

def slow(opened, index, size):
    global count
    count += 1
    time.sleep(0.1)
    return prepared(opened, index, size)

decode_cache._prepared = slow
mine.touch()
while not other.exists():
    time.sleep(0.001)
loaded = data.load(Data(name="folder", path=root, image_size=8), root.parent / "cache")
print(count, loaded.digest())
"""


def test_of_two_processes_one_decodes_and_the_other_waits(root, tmp_path):
    names = [str(tmp_path / "one"), str(tmp_path / "two")]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(root), *order],
            cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE,
            text=True,
        )
        for order in (names, names[::-1])
    ]
    said = [process.communicate(timeout=120)[0].split() for process in started]
    assert sorted(int(count) for count, _ in said) == [0, 6]
    assert {digest for _, digest in said} == {load(root).digest()}
