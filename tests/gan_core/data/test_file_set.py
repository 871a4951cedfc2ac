"""A set's digest follows from what its files hold: from no time, size or place."""

import json
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from gan_core import data
from gan_core.data import file_set
from gan_core.data.file_set import FileSet
from gan_core.experiment import Data
from gan_core.settings import SettingsError
from tests.gan_core.data.written_files import class_folders, found, pictures, wanted, written

LONG_AGO = 315_532_800  # 1980, where zip archives begin


def contents(root: Path, *texts: bytes) -> FileSet:
    root.mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        (root / f"{number}.png").write_bytes(text)
        os.utime(root / f"{number}.png", (LONG_AGO, LONG_AGO))
    return FileSet(root, sorted(root.iterdir()))


def digest(files: FileSet, cache: Path) -> str:
    return files.content(files.stamp(), cache)


def test_a_digest_belongs_to_names_and_contents(tmp_path):
    here, there = contents(tmp_path / "here", b"ab", b"c"), contents(tmp_path / "there", b"ab", b"c")
    assert digest(here, tmp_path / "cache") == digest(there, tmp_path / "cache")
    others = [contents(tmp_path / "3", b"a", b"bc"), contents(tmp_path / "4", b"ab", b"d"), contents(tmp_path / "5")]
    reversed_ = FileSet(here.root, here.files[::-1])
    renamed = FileSet(here.root, [here.files[0], here.files[1].rename(here.root / "7.png")])
    digests = {digest(files, tmp_path / "cache") for files in (there, *others, reversed_, renamed)}
    assert len(digests) == 6


@pytest.mark.parametrize("settled", [False, True])
def test_another_content_of_equal_size_and_time_is_another_set(tmp_path, monkeypatch, settled):
    """Also at once, where the file system may give both writes one time."""
    if settled:
        monkeypatch.setattr(file_set, "_SETTLED", -(10**12))
    files = contents(tmp_path / "set", b"dark", b"grey")
    before, cache = digest(files, tmp_path / "cache"), tmp_path / "cache"
    if settled:
        time.sleep(0.05)  # more than a step of the kernel's clock
    contents(tmp_path / "set", b"pale")
    assert digest(files, cache) != before
    contents(tmp_path / "set", b"dark")
    assert digest(files, cache) == before


def test_files_are_read_once_as_long_as_they_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(file_set, "_SETTLED", -(10**12))
    read: list[str] = []
    original = file_set._content
    monkeypatch.setattr(file_set, "_content", lambda path, move: read.append(path.name) or original(path, move))
    files, cache = contents(tmp_path / "set", b"ab", b"c"), tmp_path / "cache"
    first = digest(files, cache)
    assert digest(files, cache) == first
    assert sorted(read) == ["0.png", "1.png"]
    (memo,) = cache.glob("*.json")
    memo.write_text("{")  # damaged
    assert digest(files, cache) == first
    assert len(read) == 4
    copy = shutil.copy2(tmp_path / "set" / "0.png", tmp_path / "copy")  # the same size and times, another inode
    os.replace(copy, tmp_path / "set" / "0.png")
    assert digest(files, cache) == first
    assert len(read) == 6


def test_of_several_that_ask_at_once_one_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(file_set, "_SETTLED", -(10**12))
    read: list[str] = []
    original, both = file_set._content, threading.Barrier(2)
    files, cache = contents(tmp_path / "set", b"ab", b"c"), tmp_path / "cache"
    stamp = files.stamp()
    known = file_set._known

    def slow(*given):
        answer = known(*given)
        if threading.current_thread() not in asked:  # both look before either has the lock
            asked.append(threading.current_thread())
            both.wait()
        return answer

    asked: list[threading.Thread] = []
    monkeypatch.setattr(file_set, "_known", slow)
    monkeypatch.setattr(file_set, "_content", lambda path, move: read.append(path.name) or original(path, move))
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: files.content(stamp, cache), range(2)))
    assert len(set(found)) == 1
    assert sorted(read) == ["0.png", "1.png"]


def test_a_file_that_changed_just_now_is_not_taken_from_the_cache(tmp_path):
    digest(contents(tmp_path / "set", b"ab"), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.json"))


def test_files_that_cannot_be_read_are_looked_at_again(tmp_path, monkeypatch):
    monkeypatch.setattr(file_set, "_SETTLED", -(10**12))
    files = contents(tmp_path / "set", b"ab")
    whole = digest(files, tmp_path / "cache")
    files.files[0].unlink()
    files.files[0].symlink_to(tmp_path / "later")
    assert digest(files, tmp_path / "cache") != whole
    (tmp_path / "later").write_bytes(b"ab")
    assert digest(files, tmp_path / "cache") == whole


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path, monkeypatch):
    monkeypatch.setattr(file_set, "_SETTLED", -(10**12))
    files = contents(tmp_path / "set", b"ab")
    (tmp_path / "cache").write_text("a file")
    assert digest(files, tmp_path / "cache") == digest(files, tmp_path / "other")


@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_a_set_replaced_by_one_of_equal_size_and_time_is_loaded_anew(tmp_path, kind):
    path = tmp_path / "set.npz" if kind == "npz" else tmp_path / "set"
    for images in (pictures(6, 8, 8), pictures(6, 8, 8)):
        if kind == "npz":
            np.savez(path, images=images)
        else:
            for number, image in enumerate(images):
                written(path / f"{number}.bmp", image)
        for file in [path] if kind == "npz" else path.iterdir():
            os.utime(file, (LONG_AGO, LONG_AGO))
        assert found(data.load(Data(name=kind, path=path, image_size=8), tmp_path / "cache")) == wanted(images, [0] * 6)


def test_a_moved_set_is_decoded_once(tmp_path):
    root = class_folders(tmp_path / "set", a=pictures(3, 8, 8))
    before = data.load(Data(name="folder", path=root, image_size=8), tmp_path / "cache")
    moved = shutil.copytree(root, tmp_path / "elsewhere" / "moved")
    after = data.load(Data(name="folder", path=moved, image_size=8), tmp_path / "cache")
    assert after.digest() == before.digest()
    assert len(list((tmp_path / "cache" / "decoded").glob("folder-*"))) == 1


def test_files_that_change_while_they_are_decoded_are_refused_and_leave_nothing(tmp_path, monkeypatch):
    from gan_core.data import decode_cache

    root = class_folders(tmp_path / "set", a=pictures(3, 8, 8))
    settings, prepared = Data(name="folder", path=root, image_size=8), decode_cache._prepared

    def meanwhile(opened, index, size):
        written(root / "a" / "1.png", pictures(1, 8, 8)[0])
        return prepared(opened, index, size)

    with monkeypatch.context() as patch:
        patch.setattr(decode_cache, "_prepared", meanwhile)
        with pytest.raises(SettingsError, match=f"data.path={root}.*changed while they were read"):
            data.load(settings, tmp_path / "cache")
    assert not list((tmp_path / "cache" / "decoded").glob("folder-*"))
    assert len(data.load(settings, tmp_path / "cache").images) == 3


def test_the_record_in_the_cache_is_plain_json(tmp_path, monkeypatch):
    monkeypatch.setattr(file_set, "_SETTLED", -(10**12))
    files = contents(tmp_path / "set", b"ab")
    content = digest(files, tmp_path / "cache")
    (memo,) = (tmp_path / "cache").glob("*.json")
    assert json.loads(memo.read_text())["content"] == content
