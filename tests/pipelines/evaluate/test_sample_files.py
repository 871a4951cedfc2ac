"""`ganfleet sample` into files: PNG files and npz files, whole or resumed, in a folder or in S3."""

import csv
import json
import os
from pathlib import Path

import boto3
import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from gan_core import checkpoint
from gan_core.loop import Game
from gan_core.settings import SettingsError
from infra.stores import open_store
from infra.stores.local import LocalStore
from infra.stores.protocol import StoreOptions
from pipelines.evaluate import sample_files
from pipelines.evaluate.drawing import Drawing
from pipelines.evaluate.sample_files import write_npz, write_samples
from tests.pipelines.small_runs import ganfleet_here, small_train

QUIET = Console(quiet=True)
BATCH = 256


def saved(tmp_path: Path, family: str, *changes: str, names=(), shape=(1, 8, 8)) -> tuple[Game, Path]:
    """An untrained game."""
    experiment = small_train(tmp_path, family, family, *changes)
    game = Game(experiment, shape, classes=10 if len(shape) == 3 else 1, class_names=names)
    return game, checkpoint.save(game, tmp_path / f"checkpoint-{family}")


def written(folder: Path, place: Path, count: int, form: str = "png", **drawing) -> str:
    return write_samples(folder, LocalStore(place), f"{place}/", count, Drawing(**drawing), form, QUIET)


def contents(place: Path, suffix: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(place.glob(f"*{suffix}"))}


class Dying(LocalStore):
    """A folder whose process is killed after a number of files."""

    def __init__(self, folder: Path, files: int) -> None:
        super().__init__(folder)
        self.left = files

    def write(self, key: str, content: bytes) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        super().write(key, content)


def test_a_file_depends_on_the_seed_and_its_number_only(tmp_path):
    game, folder = saved(tmp_path, "dcgan", "data.image_size=8")
    said = written(folder, tmp_path / "whole", 600)
    assert said == "600 samples: 000000.png to 000599.png"
    whole = contents(tmp_path / "whole", ".png")
    assert list(whole) == [f"{number:06d}.png" for number in range(600)]
    with pytest.raises(KeyboardInterrupt):
        write_samples(folder, Dying(tmp_path / "cut", 290), "cut/", 310, Drawing(), "png", QUIET)
    there = contents(tmp_path / "cut", ".png")
    assert 250 < len(there) < 310
    kept = {name: (tmp_path / "cut" / name).stat().st_ino for name in there}
    written(folder, tmp_path / "cut", 600)
    assert contents(tmp_path / "cut", ".png") == whole
    assert {name: (tmp_path / "cut" / name).stat().st_ino for name in there} == kept, "files that are there stay"
    z = torch.stack([_latent(number) for number in range(3)])
    by_hand = ((game.sample(z).clamp(-1, 1) + 1) * 127.5).round()[:, 0].numpy()
    for number in range(3):
        pixels = np.asarray(Image.open(tmp_path / "whole" / f"{number:06d}.png"), dtype=float)
        assert np.abs(pixels - by_hand[number]).max() <= 1


def _latent(number: int) -> torch.Tensor:
    from gan_core.streams import seeded

    return torch.randn(BATCH, 8, generator=seeded("cpu", 0, "picture", "block", 0))[number]


def test_classes_of_files_are_listed(tmp_path):
    names = [f"kind {number}" for number in range(10)]
    _, folder = saved(tmp_path, "cgan", names=names)
    written(folder, tmp_path / "all", 25)
    with (tmp_path / "all" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [f"{number:06d}.png" for number in range(25)]
    assert [(row["label"], row["name"]) for row in rows[8:12]] == [
        ("8", "kind 8"),
        ("9", "kind 9"),
        ("0", "kind 0"),
        ("1", "kind 1"),
    ]
    written(folder, tmp_path / "one", 25, label="kind 4")
    with (tmp_path / "one" / "labels.csv").open(newline="") as file:
        assert {row["label"] for row in csv.DictReader(file)} == {"4"}
    four = (tmp_path / "all" / "000004.png").read_bytes()
    assert (tmp_path / "one" / "000004.png").read_bytes() == four


def test_shards_hold_what_one_file_would(tmp_path, monkeypatch):
    monkeypatch.setattr(sample_files, "SHARD_BATCHES", 1)
    _, folder = saved(tmp_path, "cgan")
    written(folder, tmp_path / "shards", 300, "npz")
    assert list(contents(tmp_path / "shards", ".npz")) == ["000000-000255.npz", "000256-000299.npz"]
    first = (tmp_path / "shards" / "000000-000255.npz").stat().st_ino
    said = written(folder, tmp_path / "shards", 700, "npz")
    assert said.startswith("700 samples: 000000-000255.npz to 000512-000699.npz")
    names = list(contents(tmp_path / "shards", ".npz"))
    assert names == ["000000-000255.npz", "000256-000511.npz", "000512-000699.npz"], "the short shard is replaced"
    assert (tmp_path / "shards" / names[0]).stat().st_ino == first
    write_npz(folder, tmp_path / "one.npz", 700, Drawing(), QUIET)
    with np.load(tmp_path / "one.npz") as one:
        assert one["images"].shape == (700, 8, 8, 1)
        assert one["images"].dtype == np.uint8
        assert one["labels"].tolist() == [number % 10 for number in range(700)]
        shards = [np.load(tmp_path / "shards" / name) for name in names]
        for array in ("images", "labels"):
            np.testing.assert_array_equal(np.concatenate([shard[array] for shard in shards]), one[array])
        written(folder, tmp_path / "files", 700)
        pixels = [np.asarray(Image.open(tmp_path / "files" / f"{number:06d}.png")) for number in (0, 255, 699)]
        np.testing.assert_array_equal(one["images"][[0, 255, 699], :, :, 0], pixels)


def test_points_are_numbers_not_pictures(tmp_path):
    _, folder = saved(tmp_path, "gan", "data.name=ring8", shape=(2,))
    with pytest.raises(SettingsError, match="the samples are points, no images; nearest: --format npz"):
        written(folder, tmp_path / "points", 9)
    write_npz(folder, tmp_path / "points.npz", 9, Drawing(seed=4), QUIET)
    with np.load(tmp_path / "points.npz") as found:
        assert list(found) == ["points"]
        assert found["points"].shape == (9, 2)
        assert found["points"].dtype == np.float32


def test_a_folder_of_other_samples_is_left_alone(tmp_path):
    _, folder = saved(tmp_path, "cgan")
    _, other = saved(tmp_path, "dcgan")
    written(folder, tmp_path / "a", 20)
    before = contents(tmp_path / "a", "")
    wrong = [
        (folder, {"seed": 7}, "png", "seed 0, not 7"),
        (folder, {"truncation": 0.5}, "png", "truncation none, not 0.5"),
        (folder, {"label": "2"}, "png", "label none, not 2"),
        (folder, {}, "npz", "format png, not npz"),
        (other, {}, "png", "family cgan, not dcgan; checkpoint "),
    ]
    for checkpoint_folder, drawing, form, said in wrong:
        with pytest.raises(SettingsError, match=said + ".*nearest: another folder"):
            written(checkpoint_folder, tmp_path / "a", 20, form, **drawing)
    with pytest.raises(SettingsError, match=r"holds 20 samples, more than --count=5; nearest: --count 20"):
        written(folder, tmp_path / "a", 5)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(SettingsError, match=r"has other files \(cat.jpg\); nearest: --out .*photos/samples/"):
        written(folder, tmp_path / "photos", 5)
    assert contents(tmp_path / "a", "") == before
    assert contents(tmp_path / "photos", "") == {"cat.jpg": b"cat"}
    (tmp_path / "a" / "samples.json").write_text("{")
    with pytest.raises(SettingsError, match="samples.json is damaged"):
        written(folder, tmp_path / "a", 20)


def test_what_is_typed_becomes_files(tmp_path, monkeypatch, capsys):
    _, folder = saved(tmp_path, "cgan")
    monkeypatch.chdir(tmp_path)
    done = ganfleet_here(monkeypatch, capsys, "sample", folder, "--count", 12, "--out", "faces/", "--seed", 3)
    assert (done.returncode, done.stdout) == (0, "faces/\n")
    assert "12 samples: 000000.png to 000011.png, their classes in labels.csv" in done.stderr
    assert json.loads((tmp_path / "faces" / "samples.json").read_text())["seed"] == 3
    left = tmp_path / "faces" / f".000003.png.{'0' * 32}.tmp"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    done = ganfleet_here(monkeypatch, capsys, "sample", folder, "--count", 12, "--out", "faces", "--seed", 3)
    assert not left.exists(), "what a killed command left is deleted"
    assert "12 of 12 samples are there already" in done.stderr
    done = ganfleet_here(monkeypatch, capsys, "sample", folder, "--count", 12, "--out", "faces/", "--seed", 4)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --out=faces/ holds other samples: seed 3, not 4; nearest: another folder\n"
    done = ganfleet_here(monkeypatch, capsys, "sample", folder, "--count", 12, "--out", "x.npz")
    assert done.stdout == "x.npz\n"
    assert len(np.load(tmp_path / "x.npz")["images"]) == 12


def test_files_go_to_a_bucket(moto_server, monkeypatch, tmp_path):
    moto_server.be_asked(monkeypatch)
    client = boto3.session.Session().client("s3", endpoint_url=moto_server.url)
    client.create_bucket(Bucket="sampled")
    _, folder = saved(tmp_path, "dcgan")
    store = open_store("s3://sampled/faces", StoreOptions(moto_server.url))
    write_samples(folder, store, "s3://sampled/faces/", 5, Drawing(), "png", QUIET)
    write_samples(folder, store, "s3://sampled/faces/", 9, Drawing(), "png", QUIET)
    written(folder, tmp_path / "here", 9)
    keys = [one["Key"] for one in client.list_objects_v2(Bucket="sampled")["Contents"]]
    assert keys == [*(f"faces/{number:06d}.png" for number in range(9)), "faces/samples.json"]
    body = client.get_object(Bucket="sampled", Key="faces/000008.png")["Body"].read()
    assert body == (tmp_path / "here" / "000008.png").read_bytes()
