"""Images of Python become a pack of the runs' storage, which is the pack of the same images in a file."""

import os
from pathlib import Path

import boto3
import numpy as np
import pytest

from gan_core import data
from gan_core.data.manifest import MANIFEST
from gan_core.experiment import Data
from infra.bounded_folder import release_all
from infra.stores.local import LocalStore
from infra.stores.protocol import silent
from pipelines.data.fetch import local_data
from pipelines.data.given import given_data
from pipelines.data.write import plan_pack, write_pack
from pipelines.settings import Storage
from tests.gan_core.data.written_files import pictures

IMAGES, LABELS = pictures(12, 10, 24, 3), np.arange(12) % 2


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path / "cache"))


def test_given_images_are_the_pack_of_their_npz_file_and_are_written_once(tmp_path):
    np.savez(tmp_path / "same.npz", images=IMAGES, labels=LABELS)
    plan = plan_pack(Data(name="npz", path=tmp_path / "same.npz", image_size="10x24"), 64 * 10**6)
    write_pack(plan, LocalStore(tmp_path / "wanted"), "there", silent)
    storage = Storage(path=tmp_path / "runs")
    settings = given_data((IMAGES / 255, LABELS), storage)
    written = Path(settings["data.path"])
    assert settings == {"data.name": "packed", "data.path": str(written), "data.image_size": "10x24"}
    assert written.parent == tmp_path / "runs" / "packs"
    for file in (tmp_path / "wanted").glob("*.npy"):
        assert (written / file.name).read_bytes() == file.read_bytes()
    assert (written / MANIFEST).read_bytes() == (tmp_path / "wanted" / MANIFEST).read_bytes()

    before = {file: os.stat(file).st_mtime_ns for file in written.iterdir()}
    assert given_data((IMAGES, LABELS), storage) == settings
    assert {file: os.stat(file).st_mtime_ns for file in written.iterdir()} == before
    assert given_data((IMAGES, LABELS), storage, image_size=8)["data.path"] != settings["data.path"]
    assert not list((tmp_path / "cache").glob(".given*"))


def test_images_given_where_runs_are_in_s3_are_fetched_from_there(tmp_path, moto_server, monkeypatch):
    moto_server.be_asked(monkeypatch)
    boto3.session.Session().client("s3", endpoint_url=moto_server.url).create_bucket(Bucket="given")
    storage = Storage(path="s3://given/runs", endpoint_url=moto_server.url)
    settings = given_data((IMAGES, LABELS), storage)
    assert settings["data.path"].startswith("s3://given/runs/packs/")
    named = Data.load({key.removeprefix("data."): value for key, value in settings.items()})
    np.savez(tmp_path / "same.npz", images=IMAGES, labels=LABELS)
    file = data.load(Data(name="npz", path=tmp_path / "same.npz", image_size="10x24"))
    assert data.load(local_data(named, storage)).digest() == file.digest()
    release_all()
