"""Small files in the real formats of torchvision's sets. Nothing is downloaded, because there is no network."""

import gzip
import hashlib
import pickle
import struct
import sys
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from gan_core import data
from gan_core.data.dataset import Dataset
from gan_core.data.sets import torchvision_sets
from gan_core.experiment import Data
from gan_core.settings import SettingsError
from tests.gan_core.data.written_files import found, pictures, wanted, written

MNISTS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
LABELS = [index % 10 for index in range(20)]


@pytest.fixture(autouse=True)
def no_debian(monkeypatch):
    monkeypatch.setattr(torchvision_sets, "_DEBIAN", {"fashion_mnist": (Path("/nowhere"), "dataset-fashion-mnist")})


@pytest.fixture
def load(tmp_path):
    def load(name: str, **settings) -> Dataset:
        return data.load(Data(**{"name": name, "path": tmp_path / "root", **settings}), tmp_path / "cache")

    return load


def refused(load, name: str, *parts: str, **settings) -> None:
    with pytest.raises(SettingsError) as caught:
        load(name, **settings)
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


# MNIST and Fashion-MNIST


def idx(values: np.ndarray) -> bytes:
    """The format of yann.lecun.com/exdb/mnist: two zeros, type, dimensions, sizes, values."""
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def mnist_files(images: np.ndarray) -> dict[str, bytes]:
    labels = np.array(LABELS, dtype=np.uint8)
    other = pictures(3, 28, 28)
    return {
        "train-images-idx3-ubyte": idx(images),
        "train-labels-idx1-ubyte": idx(labels),
        "t10k-images-idx3-ubyte": idx(other),
        "t10k-labels-idx1-ubyte": idx(labels[:3]),
    }


@pytest.mark.parametrize("name", MNISTS)
def test_mnist_is_its_train_part(load, tmp_path, name):
    raw = tmp_path / "root" / MNISTS[name] / "raw"
    raw.mkdir(parents=True)
    images = pictures(20, 28, 28)
    for file, content in mnist_files(images).items():
        (raw / file).write_bytes(content)
    loaded = load(name, image_size=28)
    assert (loaded.name, loaded.shape, loaded.classes) == (name, (1, 28, 28), 10)
    clothes = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
    assert loaded.class_names == tuple("0123456789" if name == "mnist" else clothes.split(","))
    assert found(loaded) == wanted(images, LABELS)
    assert load(name, image_size=32).shape == (1, 32, 32)


@pytest.mark.parametrize("name", MNISTS)
@pytest.mark.parametrize("packed", [(), ("train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"), None])
@pytest.mark.parametrize("flat", [False, True])
def test_mnist_is_read_packed_or_not_from_both_layouts(load, tmp_path, name, packed, flat):
    place = tmp_path / "root" if flat else tmp_path / "root" / MNISTS[name] / "raw"
    place.mkdir(parents=True)
    images = pictures(20, 28, 28)
    for file, content in mnist_files(images).items():
        if packed is None or file in packed:
            (place / f"{file}.gz").write_bytes(gzip.compress(content))
        else:
            (place / file).write_bytes(content)
    before = sorted(place.rglob("*"))
    assert found(load(name, image_size=28)) == wanted(images, LABELS)
    assert sorted(place.rglob("*")) == before, "nothing is written there"


def test_debians_package_is_used_by_those_who_have_no_files_of_their_own(load, tmp_path, monkeypatch):
    debian, own = pictures(20, 28, 28), pictures(20, 28, 28)[::-1].copy()
    place, downloads = tmp_path / "share", tmp_path / "cache" / "downloads" / "FashionMNIST" / "raw"
    for folder, images in ((place, debian), (downloads, own)):
        folder.mkdir(parents=True)
        for file, content in mnist_files(images).items():
            (folder / f"{file}.gz").write_bytes(gzip.compress(content))
    monkeypatch.setitem(torchvision_sets._DEBIAN, "fashion_mnist", (place, "dataset-fashion-mnist"))
    assert found(load("fashion_mnist", path=None, image_size=28)) == wanted(own, LABELS)
    (downloads / "train-labels-idx1-ubyte.gz").unlink()
    assert found(load("fashion_mnist", path=None, image_size=28)) == wanted(debian, LABELS)
    refused(load, "fashion_mnist", "there is no", str(tmp_path / "root"), "or apt install dataset-fashion-mnist")
    refused(load, "mnist", "there is no", str(tmp_path / "cache" / "downloads"), "four files", path=None)
    (place / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b\x08")
    right = "nearest: apt install --reinstall dataset-fashion-mnist"
    refused(load, "fashion_mnist", f"{place} is damaged: train-images-idx3-ubyte.gz: ", right, path=None)


@pytest.mark.parametrize("flat", [False, True])
def test_a_missing_file_of_four_is_named(load, tmp_path, flat):
    place = tmp_path / "root" if flat else tmp_path / "root" / "MNIST" / "raw"
    place.mkdir(parents=True)
    for file, content in list(mnist_files(pictures(20, 28, 28)).items())[:3]:
        (place / f"{file}.gz").write_bytes(gzip.compress(content))
    refused(
        load, "mnist", f"there is no {place / 't10k-labels-idx1-ubyte'}", "nearest: data.download=true, or data.path="
    )


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (lambda packed: packed[:-40], "Compressed file ended before"),
        (lambda packed: b"not packed", "Not a gzipped file"),
        (lambda packed: packed[:200] + bytes(50) + packed[250:], "failed"),
        (lambda packed: gzip.compress(gzip.decompress(packed)[:-9]), "15687 bytes, 15696 by its header"),
        (lambda packed: gzip.compress(b"\0\0\x08"), "3 bytes are no IDX file"),
    ],
)
def test_a_damaged_packed_file_is_named(load, tmp_path, damaged, said):
    (tmp_path / "root").mkdir()
    for file, content in mnist_files(pictures(20, 28, 28)).items():
        packed = gzip.compress(content)
        (tmp_path / "root" / f"{file}.gz").write_bytes(damaged(packed) if file.startswith("train-im") else packed)
    refused(load, "mnist", f"{tmp_path / 'root'} is damaged: train-images-idx3-ubyte.gz: ", said, image_size=28)


@pytest.mark.parametrize("damage", ["cut off", "few labels", "empty"])
def test_damaged_mnist_is_told(load, tmp_path, damage):
    raw = tmp_path / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    files = mnist_files(pictures(20, 28, 28))
    images, labels = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
    changed = {
        "cut off": {images: files[images][:-100]},
        "few labels": {labels: idx(np.zeros(19, dtype=np.uint8))},
        "empty": {images: b""},
    }
    for file, content in {**files, **changed[damage]}.items():
        (raw / file).write_bytes(content)
    refused(load, "mnist", "data.name=mnist", str(raw), "damaged", "nearest: delete it", image_size=28)


# CIFAR-10


@pytest.fixture
def cifar(tmp_path, monkeypatch) -> np.ndarray:
    """Twenty images in CIFAR-10's five batches, with torchvision's checksums replaced by theirs."""
    folder = tmp_path / "root" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    images = pictures(20, 32, 32, 3)
    sums = {}
    for part in range(6):
        rows = slice(4 * part, 4 * part + 4) if part < 5 else slice(0, 4)
        name = f"data_batch_{part + 1}" if part < 5 else "test_batch"
        content = pickle.dumps({"data": images[rows].transpose(0, 3, 1, 2).reshape(4, 3072), "labels": LABELS[rows]})
        (folder / name).write_bytes(content)
        sums[name] = hashlib.md5(content).hexdigest()
    meta = pickle.dumps({"label_names": [str(label) for label in range(10)]})
    (folder / "batches.meta").write_bytes(meta)
    of_meta = {"filename": "batches.meta", "key": "label_names", "md5": hashlib.md5(meta).hexdigest()}
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[name, sums[name]] for name in list(sums)[:5]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", of_meta)
    return images


def test_cifar10_is_its_train_part_in_colour(load, cifar):
    loaded = load("cifar10", image_size=32)
    assert (loaded.name, loaded.shape, loaded.classes) == ("cifar10", (3, 32, 32), 10)
    assert found(loaded) == wanted(cifar, LABELS)


def test_a_changed_byte_of_cifar10_is_found(load, cifar, tmp_path):
    path = tmp_path / "root" / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    refused(load, "cifar10", "data.name=cifar10", "damaged", "nearest: delete it", image_size=32)


def test_a_decoded_set_needs_no_torchvision(load, cifar, monkeypatch):
    first = load("cifar10", image_size=32)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert load("cifar10", image_size=32).digest() == first.digest()


# CelebA


def test_celeba_is_all_faces_cut_to_their_middle(load, tmp_path):
    faces = tmp_path / "root" / "celeba" / "img_align_celeba"
    for index in range(4):
        face = np.zeros((218, 178, 3), dtype=np.uint8)
        face[20:198] = 40 * index + 40  # above and below the square it stays black
        written(faces / f"{index + 1:06}.jpg", face, quality=95)
    loaded = load("celeba", image_size=64)
    assert (loaded.shape, loaded.classes, loaded.labels.tolist()) == ((3, 64, 64), 1, [0] * 4)
    means = ((loaded.images.mean((1, 2, 3)) + 1) * 127.5).sort().values
    torch.testing.assert_close(means, torch.tensor([40.0, 80, 120, 160]), rtol=0, atol=2)
    (faces / "000002.jpg").write_bytes(b"")
    refused(load, "celeba", "1 of 4", "000002.jpg", "nearest: data.max_bad=1", image_size=64)
    assert len(load("celeba", image_size=64, max_bad=1).images) == 3


# LSUN


class FakeLmdb(SimpleNamespace):
    """The part of the package lmdb that a reader needs. A table is the files of its folder."""

    class Error(Exception):
        pass

    @classmethod
    def open(cls, path: str, *, readonly: bool, lock: bool, readahead: bool):
        assert readonly
        assert not lock
        if (Path(path) / "broken").exists():
            raise cls.Error(f"{path}: MDB_INVALID")
        return cls(path=Path(path))

    def begin(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def cursor(self):
        return self

    def iternext(self, *, keys: bool, values: bool):
        assert keys
        assert not values
        return iter(sorted(file.name.encode() for file in self.path.glob("*.entry")))

    def get(self, key: bytes) -> bytes:
        return (self.path / key.decode()).read_bytes()


@pytest.fixture
def lsun(tmp_path, monkeypatch) -> np.ndarray:
    monkeypatch.setitem(sys.modules, "lmdb", FakeLmdb)
    images = pictures(6, 32, 32, 3)
    for index, pixels in enumerate(images):
        table = tmp_path / "root" / ("bedroom_train_lmdb" if index < 4 else "tower_train_lmdb")
        table.mkdir(parents=True, exist_ok=True)
        (table / "data.mdb").touch()
        content = BytesIO()
        Image.fromarray(pixels).save(content, format="webp", lossless=True)
        (table / f"{index}.entry").write_bytes(content.getvalue())
    return images


def test_lsun_is_the_categories_that_lie_there(load, lsun):
    loaded = load("lsun", image_size=32)
    assert (loaded.shape, loaded.classes) == ((3, 32, 32), 2)
    assert loaded.class_names == ("bedroom", "tower")
    assert found(loaded) == wanted(lsun, [0] * 4 + [1] * 2)


def test_damaged_entries_of_lsun_are_named(load, lsun, tmp_path):
    (tmp_path / "root" / "tower_train_lmdb" / "5.entry").write_bytes(b"RIFF")
    refused(load, "lsun", "1 of 6", "tower_train_lmdb/5.entry", "nearest: data.max_bad=1", image_size=32)
    assert load("lsun", image_size=32, max_bad=1).labels.bincount().tolist() == [4, 1]


def test_lsun_leaves_no_files_behind(load, lsun, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = sorted((tmp_path / "root").rglob("*"))
    load("lsun", image_size=32)
    assert sorted((tmp_path / "root").rglob("*")) == before
    assert list((tmp_path / "here").iterdir()) == []


def test_lsun_without_its_package_or_whole_tables_is_told(load, lsun, tmp_path, monkeypatch):
    (tmp_path / "root" / "tower_train_lmdb" / "broken").touch()
    refused(load, "lsun", "tower_train_lmdb", "MDB_INVALID", "nearest: data.path=")
    monkeypatch.setitem(sys.modules, "lmdb", None)
    refused(load, "lsun", "needs the package lmdb", "nearest: pip install lmdb")


# Missing files and downloads

MISSING = {
    "mnist": "MNIST/raw/train-images-idx3-ubyte",
    "fashion_mnist": "FashionMNIST/raw/train-images-idx3-ubyte",
    "cifar10": "cifar-10-batches-py/data_batch_1",
    "celeba": "celeba/img_align_celeba",
}


@pytest.mark.parametrize("name", MISSING)
def test_nothing_is_fetched_unasked(load, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    folder = MISSING[name].rpartition("/")[0]
    for settings in ({"path": None}, {}):
        root = tmp_path / ("root" if settings == {} else "cache/downloads")
        right = f"nearest: data.download=true, or data.path=FOLDER that holds {folder}"
        refused(load, name, f"data.name={name}", str(root / MISSING[name]), right, **settings)
    assert list(tmp_path.iterdir()) == []


def test_lsun_is_told_where_to_be(load, tmp_path):
    refused(load, "lsun", "data.name=lsun", "*_train_lmdb", str(tmp_path / "root"), "nearest: data.path=FOLDER")


@pytest.mark.parametrize("name", MISSING)
@pytest.mark.parametrize("error", [RuntimeError, OSError, ImportError])
def test_fetching_that_fails_is_told(load, tmp_path, monkeypatch, name, error):
    of_torchvision = {**MNISTS, "cifar10": "CIFAR10", "celeba": "CelebA"}[name]

    def fail(self):
        raise error("no such\nhost")

    monkeypatch.setattr(getattr(datasets, of_torchvision), "download", fail)
    parts = ["data.download=true", name, str(tmp_path / "root"), "no such host", "nearest: data.path=FOLDER"]
    refused(load, name, *parts, download=True)


@pytest.mark.parametrize("name", ["mnist", "celeba"])
def test_fetching_puts_the_files_where_they_are_looked_for(load, tmp_path, monkeypatch, name):
    """The test stands in for torchvision, and checks that it is called once and with the right folder."""
    place = tmp_path / "cache" / "downloads"
    asked = []

    class Downloads:
        data, targets = torch.zeros(20, 28, 28, dtype=torch.uint8), torch.tensor(LABELS)
        classes = datasets.MNIST.classes

        def __init__(self, root, download, **options):
            asked.append((root, download, options))
            if len(asked) > 1:
                return
            for face in "ab":
                written(place / "celeba" / "img_align_celeba" / f"{face}.jpg", pictures(1, 218, 178, 3)[0])
            (place / "MNIST" / "raw").mkdir(parents=True)
            for file, content in mnist_files(pictures(20, 28, 28)).items():
                (place / "MNIST" / "raw" / file).write_bytes(content)

    monkeypatch.setattr(datasets, {"mnist": "MNIST", "celeba": "CelebA"}[name], Downloads)
    loaded = load(name, path=None, image_size=32, download=True)
    assert len(loaded.images) == {"mnist": 20, "celeba": 2}[name]
    options = {"mnist": {"train": True}, "celeba": {"split": "all"}}[name]
    assert asked[0] == (place, True, options)
    count = len(asked)
    assert load(name, path=None, image_size=32).digest() == loaded.digest()
    assert len(asked) == count
