import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial import KDTree
from sklearn.datasets import load_digits
from torch.testing import assert_close

from gan_core import data
from gan_core.data.dataset import Dataset
from gan_core.data.sets.built_in import BUILT_IN
from gan_core.data.sets.stacked import STACKED
from gan_core.data.sets.torchvision_sets import TORCHVISION_SETS
from gan_core.data.sources import SOURCES
from gan_core.experiment import DATA_NAMES, POINTS, Data, Experiment
from gan_core.settings import SettingsError


def load(name: str, **settings) -> Dataset:
    return data.load(Data(name=name, **settings))


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_name_is_a_dataset(name):
    found = load(name)
    assert found.name == name
    assert len(found.images) == len(found.labels)
    assert found.images.dtype == torch.float32
    assert found.labels.dtype == torch.int64
    assert found.images.isfinite().all()
    assert found.labels.unique().tolist() == list(range(found.classes))
    assert found.shape == found.images[0].shape
    assert found.is_images == (len(found.shape) == 3)


# Settings

REFUSED = {
    "data.path=/a": ["data.path", "data.name=digits", "nearest: data.name=folder"],
    "data.path=/a.npz": ["data.path", "data.name=digits", "nearest: data.name=npz"],
    "data.name=photos data.path=/a": ["data.path", "data.name=photos", "nearest: data.name=folder"],
    "data.name=ring8 data.path=/a": ["data.path", "data.name=ring8", "nearest: data.name=folder"],
    "data.name=folder": ["data.name=folder needs data.path", "nearest: data.path=FOLDER"],
    "data.name=packed": ["data.name=packed needs data.path", "nearest: data.path=FOLDER, or s3://bucket/prefix"],
    "data.name=folder data.path=s3://a/b": ["data.path=s3://a/b: S3 holds packs; nearest: data.name=packed"],
    "data.path=s3://a/b": ["data.path has no meaning", "nearest: data.name=packed"],
    "data.name=npz": ["data.name=npz needs data.path", "nearest: data.path=FILE.npz"],
    "data.download=true": ["data.download=true", "digits", "nearest: data.download=false"],
    "data.name=lsun data.download=true": ["data.download=true", "lsun", "nearest: data.download=false"],
    "data.name=folder data.path=/a data.download=true": ["folder cannot be fetched", "nearest: data.download=false"],
    "data.download=maybe": ["data.download='maybe'", "true or false", "nearest: data.download=false"],
    "data.max_bad=3": ["data.max_bad=3", "digits", "nearest: data.max_bad=0"],
    "data.name=cifar10 data.max_bad=3": ["data.max_bad=3", "cifar10", "nearest: data.max_bad=0"],
    "data.name=celeba data.max_bad=-1": ["data.max_bad=-1", "nearest: data.max_bad=0"],
    "data.image_size=7": ["data.image_size=7", "outside of 8 to 512", "nearest: data.image_size=8"],
    "data.image_size=64x1000": ["data.image_size=64x1000", "nearest: data.image_size=64x512"],
    "data.image_size=64*64": ["data.image_size=64*64", "height x width", "nearest: data.image_size=64x128"],
    "data.name=cifar": ["data.name 'cifar'", "nearest: cifar10", *DATA_NAMES],
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_setting_that_does_not_fit_the_data_is_told(words):
    with pytest.raises(SettingsError) as caught:
        Experiment.load({"family": "wgan_gp"}).override(*words.split())
    for part in REFUSED[words]:
        assert part in str(caught.value)


def test_a_path_means_the_same_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Data(name="folder", path="faces").path == tmp_path / "faces"
    settings = Experiment.load({"family": "wgan_gp"}).override("data.name=folder", "data.path=~/faces")
    assert settings.data.path == tmp_path / "home" / "faces"
    assert Experiment.from_yaml(settings.to_yaml()) == settings


def test_every_name_has_one_loader():
    assert sorted([*BUILT_IN, *SOURCES, *TORCHVISION_SETS, *STACKED, "packed"]) == sorted(DATA_NAMES)
    assert set(POINTS) < set(BUILT_IN)


# Digits


@pytest.mark.parametrize("size", [8, 16, 28, 32, 64])
def test_digits_in_every_size(size):
    digits = load("digits", image_size=size)
    assert digits.images.shape == (1797, 1, size, size)
    assert digits.classes == 10
    assert digits.images.min() == -1
    assert 0.9 < digits.images.max() <= 1


def test_digits_at_their_own_size_are_scikit_learns():
    digits, source = load("digits", image_size=8), load_digits()
    assert torch.equal(digits.images.squeeze(1), torch.from_numpy(source.images / 8 - 1).float())
    assert torch.equal(digits.labels, torch.from_numpy(source.target))


@pytest.mark.parametrize("size", [16, 32])
def test_digits_are_resized_as_pillow_resizes(size):
    digits = load("digits", image_size=size)
    for index in (0, 5, 1796):
        source = Image.fromarray((load_digits().images[index] / 8 - 1).astype("float32"))
        wanted = torch.tensor(np.asarray(source.resize((size, size), Image.Resampling.BILINEAR)))
        assert_close(digits.images[index, 0], wanted, rtol=0, atol=1e-6)


# Mixtures

MIXTURES = {
    "ring8": ([(math.cos(k * math.pi / 4), math.sin(k * math.pi / 4)) for k in range(8)], 0.02),
    "grid25": (
        [(x / 2.828, y / 2.828) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)],
        0.05 / 2.828,
    ),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_mixtures_have_their_modes_and_spread(name):
    centres, sigma = MIXTURES[name]
    points = load(name)
    assert points.shape == (2,)
    assert points.classes == len(centres)
    modes = torch.tensor(centres, dtype=torch.float64)
    _, nearest = KDTree(modes.numpy()).query(points.images.numpy())
    counts = torch.bincount(torch.from_numpy(nearest), minlength=len(centres))
    assert (counts == len(points.images) // len(centres)).all()
    labelled = torch.stack([points.labels[nearest == mode].unique() for mode in range(len(centres))])
    assert labelled.shape == (len(centres), 1)
    apart = points.images.double() - modes[torch.from_numpy(nearest)]
    error = sigma / len(apart) ** 0.5
    assert_close(apart.mean(0), torch.zeros(2).double(), rtol=0, atol=5 * error)
    assert_close(apart.std(0), torch.full((2,), sigma).double(), rtol=0, atol=5 * error)
    assert abs(torch.corrcoef(apart.T)[0, 1]) < 5 / len(apart) ** 0.5


def test_the_image_size_has_no_meaning_for_points():
    assert load("ring8", image_size=8).digest() == load("ring8", image_size=64).digest()


# Withheld samples


def rows(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


@pytest.mark.parametrize("name", BUILT_IN)
def test_nothing_is_withheld_unasked(name):
    found = load(name)
    assert found.held_out is None
    assert found.held_out_labels is None


@pytest.mark.parametrize("share", [1e-9, 0.1, 0.5])
def test_withheld_images_are_a_random_part_of_the_whole_set(share):
    whole, found = load("digits", image_size=8), load("digits", image_size=8, held_out=share)
    assert len(found.held_out) == len(found.held_out_labels) == max(round(share * 1797), 1)
    assert len(found.images) == len(found.labels) == 1797 - len(found.held_out)
    assert rows(found.images) | rows(found.held_out) == rows(whole.images)
    label_of = {image.numpy().tobytes(): int(label) for image, label in zip(whole.images, whole.labels, strict=True)}
    for images, labels in [(found.images, found.labels), (found.held_out, found.held_out_labels)]:
        assert [label_of[image.numpy().tobytes()] for image in images] == labels.tolist()
    if share >= 0.1:
        assert found.held_out_labels.unique().tolist() == list(range(10))


def test_a_larger_part_holds_the_smaller_one():
    """A larger share of withheld samples includes those of a smaller share."""
    parts = [rows(load("digits", image_size=8, held_out=share).held_out) for share in (0.1, 0.2, 0.5)]
    assert parts[0] < parts[1] < parts[2]


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_withholds_fresh_samples_of_itself(name):
    whole, found = load(name), load(name, held_out=0.2)
    assert found.digest() == whole.digest()
    assert len(found.held_out) == len(found.held_out_labels) == len(whole.images) // 5
    assert not rows(found.held_out) & rows(whole.images)
    apart = (found.held_out - found.modes.centres[found.held_out_labels]).double()
    assert found.held_out_labels.bincount().tolist() == [200] * whole.classes
    assert_close(apart.std(), torch.tensor(whole.modes.sigma).double(), rtol=0.05, atol=0)


def test_the_digest_is_of_what_is_trained_on():
    digests = {load("digits", held_out=share).digest() for share in (0.0, 0.1, 0.2)}
    assert len(digests) == 3
    found = load("digits", held_out=0.1)
    assert replace(found, held_out=None, held_out_labels=None).digest() == found.digest()


@pytest.mark.parametrize("name", ["digits", "ring8"])
def test_withheld_samples_go_where_the_set_goes(name):
    found = load(name, held_out=0.1).to("meta", torch.float64)
    assert (found.held_out.device.type, found.held_out.dtype) == ("meta", torch.float64)
    assert (found.held_out_labels.device.type, found.held_out_labels.dtype) == ("meta", torch.int64)


@pytest.mark.parametrize(("share", "right"), [(-0.1, "0.0"), (0.6, "0.5")])
def test_a_share_out_of_range_is_told(share, right):
    with pytest.raises(SettingsError, match=f"held_out={share}.*nearest: data.held_out={right}"):
        Data.load({"held_out": share}, prefix="data.")


# Digests


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_digest_is_the_same_at_every_load_and_in_every_type(name):
    first, second = load(name), load(name)
    torch.manual_seed(3)
    assert first.digest() == second.digest() == load(name).digest()
    assert first.to("cpu", torch.float64).digest() == first.digest()


def test_a_digest_changes_with_anything_in_the_set():
    digits = load("digits", image_size=8)
    pixel, label = digits.images.clone(), digits.labels.clone()
    pixel[900, 0, 3, 3] += 1e-6
    label[900] = (label[900] + 1) % 10
    changed = [
        Dataset("digits", pixel, digits.labels, 10),
        Dataset("digits", digits.images, label, 10),
        Dataset("digits", digits.images[:-1], digits.labels[:-1], 10),
        Dataset("digits", digits.images.flip(0), digits.labels.flip(0), 10),
        Dataset("digits", digits.images.flatten(1), digits.labels, 10),
        Dataset("letters", digits.images, digits.labels, 10),
        Dataset("digits", digits.images, digits.labels, 11),
        *(load("digits", image_size=size) for size in (16, 32)),
        *(load(name) for name in ("ring8", "grid25")),
    ]
    assert len({digits.digest(), *(one.digest() for one in changed)}) == len(changed) + 1
