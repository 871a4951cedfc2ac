import pytest

from infra.files import write_atomic


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
