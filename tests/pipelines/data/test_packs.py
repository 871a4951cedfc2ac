"""A pack in a folder: it loads like its source, and an error says what is wrong with it."""

import hashlib
import json

import numpy as np
import pytest
import torch

from gan_core import data
from gan_core.data.byte_images import ByteImages
from gan_core.data.manifest import MANIFEST, Manifest
from gan_core.experiment import Data
from gan_core.settings import SettingsError
from infra.stores.local import LocalStore
from infra.stores.protocol import silent
from pipelines.data.write import plan_pack, write_pack
from tests.gan_core.data.written_files import class_folders, pictures

IMAGES = pictures(12, 8, 8, 3)
NEW = ("class_names", "content")
"""Fields that a manifest of an earlier version does not have, or has with another value."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def source(tmp_path) -> Data:
    return Data(name="folder", path=class_folders(tmp_path / "set", a=IMAGES[:5], b=IMAGES[5:]), image_size=8)


def packed(source: Data, folder, shard_bytes: int = 10**6) -> Manifest:
    plan = plan_pack(source, shard_bytes)
    write_pack(plan, LocalStore(folder), "here", silent)
    return plan.manifest


@pytest.mark.parametrize("held_out", [0, 0.25])
@pytest.mark.parametrize("shard_bytes", [10**6, 500], ids=["one shard", "several"])
@pytest.mark.parametrize("name", ["folder", "digits"])
def test_a_pack_is_loaded_as_its_source(source, tmp_path, name, shard_bytes, held_out):
    """The same bits, held-out samples and digest, and so the same FID."""
    source = source if name == "folder" else Data(name="digits", image_size=16)
    packed(source, tmp_path / "pack", shard_bytes if name == "folder" else 400 * shard_bytes)
    wanted = data.load(source.model_copy(update={"held_out": held_out}))
    found = data.load(Data(name="packed", path=tmp_path / "pack", image_size=source.image_size, held_out=held_out))
    assert (found.name, found.classes, found.shape) == (wanted.name, wanted.classes, wanted.shape)
    assert isinstance(found.images, ByteImages) == (name == "folder")
    for one, other in [(found.images, wanted.images), (found.held_out, wanted.held_out)]:
        if other is not None:
            assert torch.equal(one[:], other[:])
    assert torch.equal(found.labels, wanted.labels)
    assert found.digest() == wanted.digest()
    assert found.class_names == wanted.class_names
    assert len(found.class_names) == found.classes


def test_a_pack_of_an_earlier_version_has_no_names_and_gets_them(source, tmp_path):
    manifest = packed(source, tmp_path / "pack")
    file = tmp_path / "pack" / MANIFEST
    earlier = {name: value for name, value in json.loads(file.read_text()).items() if name not in NEW}
    content = hashlib.sha256(json.dumps(earlier, sort_keys=True).encode()).hexdigest()
    file.unlink()  # with its digest
    file.write_bytes(json.dumps({**earlier, "content": content}, indent=1).encode() + b"\n")
    settings = Data(name="packed", path=tmp_path / "pack", image_size=8)
    assert data.load(settings).class_names == ()
    assert Manifest.from_json(file.read_bytes()).to_json() == file.read_bytes()
    assert write_pack(plan_pack(source, 10**6), LocalStore(tmp_path / "pack"), "here", silent) == 1
    assert Manifest.from_json(file.read_bytes()) == manifest
    assert data.load(settings).class_names == ("a", "b")


def test_a_shard_is_plain_numpy(source, tmp_path):
    manifest = packed(source, tmp_path / "pack", 500)
    assert [shard.images for shard in manifest.shards] == [2] * 6
    for shard in manifest.shards:
        images = np.load(tmp_path / "pack" / shard.name)
        assert (images.dtype, images.shape) == (np.uint8, (2, 3, 8, 8))
    assert (manifest.images, manifest.classes, manifest.channels, manifest.image_size) == (12, 2, 3, 8)


def test_a_pack_has_images_that_are_no_squares(tmp_path):
    source = Data(name="digits", image_size="8x24")
    manifest = packed(source, tmp_path / "pack")
    assert manifest.shape == (1797, 1, 8, 24)
    assert Manifest.from_json((tmp_path / "pack" / MANIFEST).read_bytes()) == manifest
    unpacked = data.load(Data(name="packed", path=tmp_path / "pack", image_size="8x24"))
    assert torch.equal(torch.as_tensor(unpacked.images[:9]), data.load(source).images[:9])
    refused(tmp_path / "pack", "holds images of 8x24", "nearest: data.image_size=8x24")


def refused(folder, *parts: str, size: int = 8) -> None:
    with pytest.raises(SettingsError) as error:
        data.load(Data(name="packed", path=folder, image_size=size))
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_wrong_with_a_pack_is_told(source, tmp_path):
    folder = tmp_path / "pack"
    refused(folder, f"data.path={folder} is no pack", "manifest.json", "nearest: ganfleet data pack SOURCE")
    manifest = packed(source, folder)
    refused(folder, "data.image_size=16", "images of 8", "nearest: data.image_size=8", size=16)
    refused("s3://bucket/pack", "s3://bucket/pack is not on this machine", "nearest: ganfleet data pull")
    shard = folder / manifest.shards[0].name
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    refused(folder, "is damaged", f"nearest: ganfleet data verify {folder}")
    shard.unlink()
    refused(folder, "is damaged", shard.name)
    about = json.loads((folder / MANIFEST).read_text())
    for damage in ({"images": 13}, {"content": "0"}, {"channels": 2}, {"format": 2}, {"shards": []}):
        (folder / MANIFEST).write_text(json.dumps(about | damage))
        refused(folder, "is damaged", MANIFEST)
    for text in ("", "[]", "{", "null", "\xff"):
        (folder / MANIFEST).write_bytes(text.encode("latin1"))
        refused(folder, "is damaged", MANIFEST)


def test_a_shard_lies_beside_its_manifest(source, tmp_path):
    about = json.loads(packed(source, tmp_path / "pack").to_json())
    about["labels"]["name"] = "../labels.npy"
    with pytest.raises(ValueError, match="labels.name"):
        Manifest.from_json(json.dumps(about).encode())


def test_the_same_images_make_the_same_pack(source, tmp_path):
    """The pack does not depend on the place or the time. Other images, sizes or shards make another pack."""
    first = packed(source, tmp_path / "first")
    copy = Data(name="folder", path=class_folders(tmp_path / "copy", a=IMAGES[:5], b=IMAGES[5:]), image_size=8)
    assert packed(copy, tmp_path / "second") == first
    files = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "second").iterdir()} == files
    assert Manifest.from_json(files[MANIFEST]) == first
    others = [
        plan_pack(source.model_copy(update={"image_size": 16}), 10**6),
        plan_pack(source, 500),
        plan_pack(Data(name="folder", path=class_folders(tmp_path / "set2", a=IMAGES), image_size=8), 10**6),
    ]
    assert len({first.content, *(plan.manifest.content for plan in others)}) == 4


def test_points_are_not_packed():
    with pytest.raises(SettingsError, match="ring8 are points.*nearest: digits"):
        plan_pack(Data(name="ring8"), 10**6)
