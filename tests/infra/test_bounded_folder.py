"""A cache of bounded size: which entry is deleted, which stays, who makes one."""

import multiprocessing
import time
from pathlib import Path

import pytest

from infra.bounded_folder import BoundedFolder, FullError, release_all


@pytest.fixture(autouse=True)
def unused():
    yield
    release_all()


def use(root: Path, name: str, size: int = 10, limit: int = 30, made: list | None = None) -> Path:
    def make(folder: Path) -> None:
        if made is not None:
            made.append(name)
        (folder / "content").write_text(name)

    return BoundedFolder(root, limit).use(name, size, lambda folder: (folder / "content").exists(), make, lambda: None)


def entries(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.name != "locks")


def test_an_entry_is_made_once(tmp_path):
    made = []
    for _ in range(2):
        assert (use(tmp_path, "a", made=made) / "content").read_text() == "a"
    assert made == ["a"]


def test_what_was_used_least_recently_goes(tmp_path):
    for name in "abc":
        use(tmp_path, name)
    release_all()
    use(tmp_path, "a")  # again: now b is the oldest
    release_all()
    use(tmp_path, "d")
    assert entries(tmp_path) == ["a", "c", "d"]
    release_all()
    use(tmp_path, "e", size=20)
    assert entries(tmp_path) == ["d", "e"]


def test_what_is_in_use_stays(tmp_path):
    for name in "ab":
        use(tmp_path, name)
    with pytest.raises(FullError) as error:
        use(tmp_path, "c", size=20)
    assert (error.value.needed, error.value.used) == (20, 20)
    assert entries(tmp_path) == ["a", "b"]
    use(tmp_path, "d", size=10)
    assert entries(tmp_path) == ["a", "b", "d"]


def test_what_has_no_room_at_all_drives_nothing_out(tmp_path):
    use(tmp_path, "a")
    release_all()
    with pytest.raises(FullError) as error:
        use(tmp_path, "b", size=31)
    assert (error.value.needed, error.value.used) == (31, 0)
    assert entries(tmp_path) == ["a"]


def test_what_was_begun_is_kept_and_counts(tmp_path):
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError("no network")

    with pytest.raises(OSError, match="no network"):
        BoundedFolder(tmp_path, 30).use("a", 25, lambda folder: False, fail, lambda: None)
    assert (tmp_path / "a" / "half").exists()
    release_all()
    use(tmp_path, "b")
    assert entries(tmp_path) == ["b"]


def hold(root: Path, name: str, seconds: float) -> None:
    use(root, name)
    (root / f"{name}.ready").touch()
    time.sleep(seconds)


def make_slowly(root: Path) -> None:
    def make(folder: Path) -> None:
        with (root / "made").open("a") as file:
            file.write("once ")
        time.sleep(0.5)
        (folder / "content").write_text("a")

    folder = BoundedFolder(root / "cache", 30).use(
        "a", 10, lambda folder: (folder / "content").exists(), make, lambda: (root / "waited").touch()
    )
    assert (folder / "content").read_text() == "a"


def test_one_process_makes_it_and_the_others_wait(tmp_path, spawned):
    assert spawned(make_slowly, [(tmp_path,)] * 2) == [0, 0]
    assert (tmp_path / "made").read_text() == "once "


def test_what_another_process_uses_stays_until_its_end(tmp_path, spawned):
    root = tmp_path / "cache"
    assert spawned(hold, [(root, "a", 0)]) == [0]
    (root / "a.ready").unlink()
    use(root, "b")
    with pytest.raises(FullError):
        use(root, "c", size=25)
    assert entries(root) == ["b"]  # a's process has ended
    release_all()
    assert entries(root) == ["b"]
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(root, "a", 60))
    process.start()
    try:
        while not (root / "a.ready").exists():
            time.sleep(0.05)
        with pytest.raises(FullError) as error:
            use(root, "c", size=25)
        assert error.value.used == 10
        assert (root / "a").exists()
    finally:
        process.kill()
        process.join()
    release_all()
    use(root, "c", size=25)
    assert not (root / "a").exists()
