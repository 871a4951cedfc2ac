import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial import KDTree
from sklearn.datasets import load_digits
from torch.testing import assert_close

from gan_core import data
from gan_core.data import Dataset
from gan_core.experiment import DATA_NAMES, Data


def load(name: str, **settings) -> Dataset:
    return data.load(Data(name=name, **settings))


@pytest.mark.parametrize("name", DATA_NAMES)
def test_every_name_is_a_dataset(name):
    found = load(name)
    assert found.name == name
    assert len(found.images) == len(found.labels)
    assert found.images.dtype == torch.float32
    assert found.labels.dtype == torch.int64
    assert found.images.isfinite().all()
    assert found.labels.unique().tolist() == list(range(found.classes))
    assert found.shape == found.images[0].shape
    assert found.pictured == (len(found.shape) == 3)


# Digits


@pytest.mark.parametrize("size", [8, 16, 32, 64])
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


# Digests


@pytest.mark.parametrize("name", DATA_NAMES)
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
