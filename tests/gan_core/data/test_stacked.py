"""Three grey images as the channels of one: which images they are, and how their 1,000 modes are counted."""

import gzip
import math
from itertools import product

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from gan_core import data
from gan_core.data.byte_images import to_bytes
from gan_core.data.dataset import Dataset
from gan_core.data.sets import stacked, torchvision_sets
from gan_core.data.sets.stacked import CHANNELS, channels_apart
from gan_core.experiment import Data, Experiment
from gan_core.loop import Game
from gan_core.measures import Metrics
from gan_core.metrics.coverage import class_coverage
from gan_core.metrics.extractors.classifier import Classifier, StackedClassifier
from gan_core.metrics.extractors.extractor import Extractor
from gan_core.metrics.scores import scores
from gan_core.metrics.statistics.reference import Reference, build_extractor
from gan_core.metrics.statistics.tally import Tally
from gan_core.settings import SettingsError
from tests.gan_core.data.test_torchvision_sets import idx
from tests.gan_core.data.written_files import pictures

FEW = 4
"""Stacks of each mode in these tests. Their number is the only thing that differs."""


@pytest.fixture(scope="module", autouse=True)
def few():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stacked, "PER_MODE", FEW)
        yield


@pytest.fixture(scope="module")
def stacks(tmp_path_factory) -> Dataset:
    return data.load(Data(name="stacked_digits", image_size=8), tmp_path_factory.mktemp("cache"))


def digits_of(labels: torch.Tensor) -> torch.Tensor:
    return torch.tensor([[int(sign) for sign in f"{int(label):03d}"] for label in labels])


def test_stacked_digits_are_three_digits_of_each_mode_equally_often(stacks):
    assert (stacks.shape, stacks.classes, len(stacks.images)) == ((3, 8, 8), 1000, 1000 * FEW)
    assert stacks.labels.bincount().tolist() == [FEW] * 1000
    assert stacks.class_names == tuple(f"{number:03d}" for number in range(1000))
    single = data.load(Data(image_size=8))
    known = {
        (int(label), to_bytes(image).numpy().tobytes())
        for image, label in zip(single.images, single.labels, strict=True)
    }
    for image, names in zip(stacks.images.stored[:500], digits_of(stacks.labels[:500]), strict=True):
        assert {(int(name), channel.numpy().tobytes()) for name, channel in zip(names, image, strict=True)} <= known


def test_the_stacks_are_the_same_wherever_they_are_made(stacks, tmp_path):
    again = data.load(Data(name="stacked_digits", image_size=8), tmp_path)
    assert again.digest() == stacks.digest()
    held = data.load(Data(name="stacked_digits", image_size=8, held_out=0.1), tmp_path)
    assert torch.equal(held.held_out[:], stacks.images[: 100 * FEW])


def test_the_channels_apart_are_the_digits_each_once(stacks):
    apart, digits = channels_apart(stacks), data.load(Data(image_size=8))
    assert (apart.name, apart.classes) == ("digits", 10)
    wanted = {
        to_bytes(image).numpy().tobytes(): int(label) for image, label in zip(digits.images, digits.labels, strict=True)
    }
    found = [
        (image.numpy().tobytes(), int(label)) for image, label in zip(apart.images.stored, apart.labels, strict=True)
    ]
    assert dict(found).items() <= wanted.items()
    assert 1700 < len(dict(found)) == len(found)


def mnist_below(folder, labels: np.ndarray) -> np.ndarray:
    """Writes MNIST's four files, and returns the train images."""
    folder.mkdir(parents=True)
    images = pictures(len(labels), 28, 28)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return images


@pytest.mark.parametrize(("name", "folder"), [("stacked_mnist", "MNIST"), ("stacked_fashion_mnist", "FashionMNIST")])
def test_torchvisions_sets_are_stacked_from_their_files(tmp_path, name, folder):
    labels = np.arange(30, dtype=np.uint8) % 10
    images = mnist_below(tmp_path / folder / "raw", labels)
    found = data.load(Data(name=name, image_size=28, path=tmp_path), tmp_path / "cache")
    assert (found.name, found.shape, found.classes, len(found.images)) == (name, (3, 28, 28), 1000, 1000 * FEW)
    for image, classes in zip(found.images.stored[:200], digits_of(found.labels[:200]), strict=True):
        for channel, number in zip(image.numpy(), classes, strict=True):
            assert any((channel == one).all() for one in images[labels == int(number)])
    assert found.class_names[999] == ("999" if folder == "MNIST" else "Ankle boot + Ankle boot + Ankle boot")


def test_a_class_without_images_and_missing_files_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision_sets, "_DEBIAN", {})
    mnist_below(tmp_path / "MNIST" / "raw", np.arange(30, dtype=np.uint8) % 9)
    with pytest.raises(SettingsError, match="data.name=stacked_mnist: no image of class 9 to stack"):
        data.load(Data(name="stacked_mnist", image_size=28, path=tmp_path), tmp_path / "cache")
    with pytest.raises(SettingsError, match=r"data.name=stacked_fashion_mnist: there is no .*data.download=true"):
        data.load(Data(name="stacked_fashion_mnist", path=tmp_path), tmp_path / "cache")


# Modes


def test_covered_classes_and_their_divergence_by_hand():
    assert class_coverage(torch.tensor([5, 5, 5, 5])) == (4, 0.0)
    assert class_coverage(torch.tensor([0, 7, 0, 0])) == (1, pytest.approx(math.log(4)))
    modes, divergence = class_coverage(torch.tensor([3, 1, 0, 0]))
    assert (modes, divergence) == (2, pytest.approx(0.75 * math.log(3) + 0.25 * math.log(1)))
    with pytest.raises(ValueError, match="no sample"):
        class_coverage(torch.zeros(4))


def test_a_stacks_classifier_is_the_digits_classifier_of_each_channel():
    torch.manual_seed(0)
    stacked, images = StackedClassifier((3, 8, 8), 1000).double(), torch.rand(5, 3, 8, 8) * 2 - 1
    single = Classifier((1, 8, 8), 10).double()
    single.load_state_dict(stacked.state_dict())
    with torch.no_grad():
        features, modes = stacked(images)
        parts = [single(images[:, channel, None]) for channel in range(CHANNELS)]
    assert_close(features, torch.cat([one for one, _ in parts], dim=1))
    odds = [logits.softmax(dim=1) for _, logits in parts]
    for a, b, c in product((0, 4, 9), repeat=3):
        assert_close(modes[:, 100 * a + 10 * b + c].exp(), odds[0][:, a] * odds[1][:, b] * odds[2][:, c])


@pytest.fixture(scope="module")
def counted(reference, tmp_path_factory) -> tuple[Dataset, Reference]:
    """Stacks at 16x16 and a reference of some of them, by the digits' classifier, so that none is trained."""
    dataset = data.load(Data(name="stacked_digits"), tmp_path_factory.mktemp("cache"))
    net = StackedClassifier(dataset.shape, dataset.classes).double()
    net.load_state_dict(reference.extractor.net.state_dict())
    extractor = Extractor(net.requires_grad_(False).eval())
    some = Tally(extractor, 500).extend(dataset.images[:500].split(250))
    fits = (dataset.shape, dataset.classes, dataset.modes)
    return dataset, Reference(extractor, some.moments.gaussian, 500, *fits, images=dataset.images)


def test_modes_of_samples_are_counted_by_the_classifier(counted):
    dataset, reference = counted
    game = Game(
        Experiment.load({"family": "dcgan", "data": {"name": "stacked_digits"}}).override("metrics.samples=600"),
        (3, 16, 16),
    )
    known = dataset.images[dataset.labels % 40 == 3]  # of 25 modes
    game.sample = lambda z, labels: known[torch.arange(len(z)) % len(known)]
    found = scores(game, reference)
    wrong = found["modes"] - 25
    assert 0 <= wrong <= 0.1 * len(known), "a digit in fifty is taken for another"
    assert math.log(1000 / 25) - 0.6 < found["modes_kl"] < math.log(1000 / 25) + 0.1
    assert found["inception_score"] > 15
    assert "high_quality" not in found


def test_a_reference_of_stacks_goes_to_bytes_and_back(counted):
    dataset, reference = counted
    again = Reference.from_bytes(reference.to_bytes(), dataset)
    assert isinstance(again.extractor.net, StackedClassifier)
    assert torch.equal(again.extractor.features(dataset.images[:9]), reference.extractor.features(dataset.images[:9]))


@pytest.mark.full
def test_the_classifier_of_stacks_knows_their_modes(counted):
    dataset, _ = counted
    extractor = build_extractor(Metrics(), "classifier", dataset)
    assert extractor.accuracy > 0.95
    features, modes = extractor(dataset.images[:])
    assert (modes.argmax(dim=1) == dataset.labels).double().mean() > 0.95
    assert float(features.var(dim=0).sum()) == pytest.approx(3000, rel=0.1)


def test_modes_are_asked_of_stacks_and_mixtures_only():
    def of(*words):
        return Experiment.load({"family": "dcgan"}).override(*words)

    of("data.name=stacked_digits", "metrics.measures=[modes,modes_kl]")
    for words, said in {
        (
            "metrics.measures=modes_kl",
        ): "metrics.measures=modes_kl is of stacked images; nearest: data.name=stacked_digits",
        (
            "data.name=stacked_digits",
            "metrics.measures=modes",
            "metrics.extractor=pixels",
        ): "does not name the mode; nearest: metrics.ext",
        ("data.name=stacked_digits", "metrics.measures=high_quality"): "is of mixtures, the data are images",
    }.items():
        with pytest.raises(SettingsError, match=said):
            of(*words)
