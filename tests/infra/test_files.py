import errno
import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from infra.files import hidden_name, sweep, write_atomic, write_new


def test_new_bytes_replace_old_ones_and_nothing_else_stays(tmp_path):
    path = tmp_path / "best.yaml"
    write_atomic(path, b"old")
    write_atomic(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "best.yaml"
    write_atomic(path, b"old")
    with pytest.raises(TypeError):
        write_atomic(path, "text")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_target_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomic(tmp_path / "taken", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_the_folder_must_exist(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "nowhere" / "file", b"x")


def no_links(*_: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("link", [os.link, no_links])
def test_of_several_that_make_a_file_one_does(tmp_path, monkeypatch, link):
    """Also on a file system without hard links."""
    monkeypatch.setattr("os.link", link)
    count, path = 8, tmp_path / "experiment.yaml"
    gate = Barrier(count)

    def make(number: int) -> bool:
        gate.wait()
        return write_new(path, f"seed: {number}".encode())

    with ThreadPoolExecutor(count) as pool:
        made = list(pool.map(make, range(count)))
    assert made.count(True) == 1
    assert path.read_text() == f"seed: {made.index(True)}"
    assert not write_new(path, b"later")
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_whose_answer_was_lost_was_made(tmp_path, monkeypatch):
    """An NFS client asks again, and is told that the file exists."""
    link = os.link

    def twice(*where: object) -> None:
        link(*where)
        link(*where)

    monkeypatch.setattr("os.link", twice)
    assert write_new(tmp_path / "file", b"ours")
    assert not write_new(tmp_path / "file", b"theirs")
    assert (tmp_path / "file").read_bytes() == b"ours"


def aged(path, seconds: float):
    """A file or folder that was last written so long ago."""
    then = time.time() - seconds
    for one in (*(path.iterdir() if path.is_dir() else ()), path):
        os.utime(one, (then, then))
    return path


def test_what_killed_writers_left_is_swept_and_nothing_else(tmp_path):
    number = uuid.uuid4().hex
    with hidden_name(tmp_path / "best.yaml") as aside:
        left = [aside, tmp_path / f".step-000030-{number}-new", tmp_path / f".step-000020-{number}-old"]
        kept = ["best.yaml", ".driver.lock", ".follower", number, f"{number}.tmp", ".part", f".{number}.part", ".a.tmp"]
        aside.write_text("")
        for path in left[1:]:
            path.mkdir()
        for path in left:
            aged(path, 100)
        for name in kept:
            (tmp_path / name).write_text("")
            aged(tmp_path / name, 100)
        sweep(tmp_path, 200)
        assert all(path.exists() for path in left)
        (left[1] / "state").write_text("being written")
        sweep(tmp_path, 50)
        assert [path for path in left if path.exists()] == [left[1]]
        sweep(tmp_path, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    sweep(tmp_path / "nowhere", 0)
