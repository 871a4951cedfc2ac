from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.testing import assert_close

from gan_core import data
from gan_core.data.byte_images import ByteImages
from gan_core.data.dataset import Dataset
from gan_core.experiment import Data
from gan_core.measures import Metrics
from gan_core.metrics.extractors import classifier
from gan_core.metrics.extractors.classifier import PIXELS, TOTAL_VARIANCE, Classifier, train_classifier
from gan_core.metrics.extractors.extractor import Extractor, PixelFeatures, quantised, tensors_digest
from gan_core.metrics.statistics.reference import Reference, extractor_name
from gan_core.settings import SettingsError
from gan_core.streams import seeded

# Extractors


def test_images_are_scored_as_a_png_keeps_them():
    levels = torch.linspace(-1, 1, 256)
    assert_close(quantised(levels), levels, rtol=0, atol=1e-6)
    assert_close(quantised(levels + 0.003), levels, rtol=0, atol=1e-6)
    assert_close(quantised(torch.tensor([-7.0, 7.0])), torch.tensor([-1.0, 1.0]))
    assert len(quantised(torch.linspace(-1, 1, 10_001)).unique()) == 256


def test_the_classifier_knows_the_digits(reference, digits):
    assert 0.95 < reference.extractor.accuracy <= 1
    guesses = reference.extractor(digits.images)[1].argmax(1)
    assert (guesses == digits.labels).double().mean() > 0.95
    values = reference.extractor.features(digits.images)
    assert values.shape == (1797, 64)
    assert values.dtype == torch.float64
    assert float(values.double().var(0).sum()) == pytest.approx(TOTAL_VARIANCE, rel=1e-4)


def test_a_short_training_is_repeated_to_the_bit_and_leaves_the_global_generator_alone(digits):
    few = Dataset("few", digits.images[:200], digits.labels[:200], 10)
    before = torch.get_rng_state()
    one, other = train_classifier(few, passes=1), train_classifier(few, passes=1)
    assert Extractor(one[0]).digest == Extractor(other[0]).digest
    assert Extractor(one[0]).digest != Extractor(train_classifier(few, passes=2)[0]).digest
    assert torch.equal(before, torch.get_rng_state())


def plainly_trained(data: Dataset, steps: int) -> dict[str, torch.Tensor]:
    """The weights after so many steps, pass after pass, by one thread: what the docstrings say, in plain PyTorch."""
    count = len(data.images)
    train = torch.randperm(count, generator=seeded("cpu", "classifier split"))[count // 5 :]
    passes = range(-(-steps * 64 // len(train)))
    orders = [torch.randperm(len(train), generator=seeded("cpu", "classifier", number)) for number in passes]
    batches = [some for order in orders for some in train[order].split(64)][:steps]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Classifier(data.shape, data.classes)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    images = quantised(data.images)
    for some in batches:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images[some])[1], data.labels[some]).backward()
        optimizer.step()
        schedule.step()
    return {name: value.double() for name, value in net.state_dict().items() if name != "scale"}


@pytest.mark.parametrize(("images", "passes", "steps"), [(200, 2, 6), (199, 15, 7)], ids=["by passes", "by steps"])
def test_a_classifier_is_trained_for_passes_or_for_steps_whichever_is_less(digits, images, passes, steps):
    few = Dataset("few", digits.images[:images], digits.labels[:images], 10)
    net, _ = train_classifier(few, passes, most_steps=7)
    wanted = plainly_trained(few, steps)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in wanted.items())


def test_the_weights_and_the_statistics_do_not_depend_on_the_number_of_threads(digits):
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            one = Reference.build(Metrics(), Dataset("few", digits.images[:700], digits.labels[:700], 10))
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(1)
        statistics = {"mean": one.target.mean, "covariance": one.target.covariance}
        found.append((one.extractor.digest, one.extractor.accuracy, tensors_digest(statistics)))
    assert found[0] == found[1]


def test_features_do_not_depend_on_the_number_of_threads(digits):
    net = Classifier((1, 16, 16), 10).double()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            with torch.no_grad():
                found.append(net(digits.images[:300])[0])
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(1)
    assert torch.equal(*found)


def test_of_many_images_some_are_tested_and_scaled_by(digits, monkeypatch):
    monkeypatch.setattr(classifier, "MOST_MEASURED", 300)
    shown = {}

    @contextmanager
    def bars(about: str, total: float):
        moves = []
        yield moves.append
        shown[about] = (total, sum(moves))

    net, accuracy = train_classifier(digits, passes=3, bars=bars)
    assert shown == {"FID's classifier, steps of training": (69, 69), "FID's classifier, images measured": (600, 600)}
    features = Extractor(net).features(digits.images)
    assert float(features.var(0).sum()) == pytest.approx(TOTAL_VARIANCE, rel=0.1)
    assert (accuracy * 300) == pytest.approx(round(accuracy * 300))
    assert accuracy > 0.8


def test_images_that_are_stored_as_bytes_are_not_converted_as_a_whole(digits, monkeypatch):
    """The floats of a large set would not fit into memory."""
    stored = ((digits.images[:600] + 1) * 127.5).round().to(torch.uint8)
    floats = Dataset("few", stored.float() / 127.5 - 1, digits.labels[:600], 10)
    wanted = Reference.build(Metrics(), floats).to_bytes()
    whole = ByteImages.floats
    monkeypatch.setattr(ByteImages, "floats", lambda some: whole(some) if len(some) <= 256 else pytest.fail("all"))
    found = Reference.build(Metrics(), replace(floats, images=ByteImages(stored)))
    again = Reference.from_bytes(wanted, floats)
    assert found.extractor.digest == again.extractor.digest
    assert_close(found.target.covariance, again.target.covariance)


def test_the_accuracy_is_of_images_that_were_not_trained_on(digits):
    """With random labels the accuracy is that of a guess among 10, even if the training labels are memorised."""
    few = Dataset("few", digits.images[:250], torch.arange(250) * 7 % 10, 10)
    assert train_classifier(few, passes=15)[1] < 0.35


def test_pixels_are_the_samples_themselves():
    points = torch.randn(4, 2)
    assert torch.equal(Extractor(PixelFeatures()).features(points), points)
    images = torch.rand(4, 1, 8, 8) * 2 - 1
    assert torch.equal(Extractor(PixelFeatures()).features(images), quantised(images).flatten(1))


@pytest.mark.parametrize(
    ("name", "asked", "given"),
    [
        ("digits", "auto", "classifier"),
        ("digits", "pixels", "pixels"),
        ("ring8", "auto", "pixels"),
        ("grid25", "pixels", "pixels"),
    ],
)
def test_which_extractor_is_meant(name, asked, given):
    assert extractor_name(Metrics(extractor=asked), data.load(Data(name=name))) == given


def test_a_classifier_of_points_is_refused():
    with pytest.raises(SettingsError, match="metrics.extractor=classifier.*nearest: metrics.extractor=pixels"):
        Reference.build(Metrics(extractor="classifier"), data.load(Data(name="ring8")))


# References


def test_a_reference_holds_the_moments_of_the_whole_set(reference, digits):
    values = reference.extractor.features(digits.images).double().numpy()
    assert reference.count == 1797
    assert_close(reference.target.mean.numpy(), values.mean(0), rtol=1e-5, atol=1e-5)
    assert_close(reference.target.covariance.numpy(), np.cov(values, rowvar=False), rtol=1e-4, atol=1e-4)


def test_to_bytes_and_back(reference, digits):
    again = Reference.from_bytes(reference.to_bytes(), digits)
    assert again.extractor.digest == reference.extractor.digest
    assert again.extractor.accuracy == reference.extractor.accuracy
    assert again.count == reference.count
    assert torch.equal(again.target.mean, reference.target.mean)
    assert torch.equal(again.target.covariance, reference.target.covariance)
    images = digits.images[:50]
    assert torch.equal(again.extractor.features(images), reference.extractor.features(images))


def test_to_bytes_and_back_for_points():
    ring = data.load(Data(name="ring8"))
    reference = Reference.build(Metrics(), ring)
    again = Reference.from_bytes(reference.to_bytes(), ring)
    assert again.extractor.net.name == "pixels"
    assert again.extractor.accuracy is None
    assert_close(again.target.covariance.numpy(), np.cov(ring.images.double().numpy(), rowvar=False))


def header(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")


@pytest.mark.parametrize("where", ["size", "header", "first", "middle", "last"])
def test_a_damaged_byte_is_refused(reference, digits, where):
    content = bytearray(reference.to_bytes())
    start = header(content)
    index = {"size": 2, "header": 8, "first": start, "middle": (start + len(content)) // 2, "last": -1}[where]
    content[index] ^= 1
    with pytest.raises(ValueError, match="not a reference of digits"):
        Reference.from_bytes(bytes(content), digits)


@pytest.mark.parametrize("key", ["accuracy", "extractor"])
def test_a_damaged_byte_of_what_a_reference_says_of_itself_is_refused(reference, digits, key):
    content = reference.to_bytes()
    at = content.index(b'"%s":"' % key.encode()) + len(key) + 4 + 2
    damaged = bytearray(content)
    damaged[at] ^= 1
    assert 8 < at < header(content)
    with pytest.raises(ValueError, match="not a reference of digits"):
        Reference.from_bytes(bytes(damaged), digits)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_bytes_cut_short_are_refused(reference, digits, keep):
    with pytest.raises(ValueError, match="not a reference of digits"):
        Reference.from_bytes(reference.to_bytes()[:keep], digits)


def test_another_safetensors_file_is_refused(digits):
    other = safetensors.torch.save({"weight": torch.zeros(3)})
    with pytest.raises(ValueError, match="not a reference of digits"):
        Reference.from_bytes(other, digits)


@pytest.mark.parametrize("settings", [Data(image_size=8), Data(name="ring8")], ids=["digits 8x8", "ring8"])
def test_a_reference_of_data_of_another_shape_is_refused(reference, settings):
    with pytest.raises(ValueError, match="not a reference of"):
        Reference.from_bytes(reference.to_bytes(), data.load(settings))


def test_points_are_no_reference_of_images(digits):
    content = Reference.build(Metrics(), data.load(Data(name="ring8"))).to_bytes()
    with pytest.raises(ValueError, match="not a reference of digits"):
        Reference.from_bytes(content, digits)


def test_given_weights_are_the_extractor(reference, digits, tmp_path):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(reference.to_bytes())
    half = Dataset("half", digits.images[::2], digits.labels[::2], 10)
    found = Reference.build(Metrics(weights=weights), half)
    assert found.extractor.digest == reference.extractor.digest
    assert found.count == 899


def test_the_key_changes_with_content_size_extractor_and_weights(reference, digits, tmp_path):
    auto, pixels = Metrics(), Metrics(extractor="pixels")
    pixel, label = digits.images.clone(), digits.labels.clone()
    pixel[7, 0, 8, 8] += 1e-6
    label[7] = (label[7] + 1) % 10
    files = [tmp_path / "one", tmp_path / "two"]
    for file in files:
        file.write_bytes(file.name.encode())
    keys = [
        Reference.key(auto, digits),
        Reference.key(pixels, digits),
        Reference.key(auto, Dataset("digits", pixel, digits.labels, 10)),
        Reference.key(auto, Dataset("digits", digits.images, label, 10)),
        *(Reference.key(auto, data.load(Data(image_size=size))) for size in (8, 32)),
        *(Reference.key(Metrics(weights=file), digits) for file in files),
    ]
    assert len(set(keys)) == len(keys)
    assert Reference.key(Metrics(extractor="classifier", samples=100), data.load(Data())) == keys[0]


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 16, 16), (3, 28, 28), (3, 64, 64)])
def test_a_classifier_measures_what_its_layers_say(shape):
    """Our convolutions against PyTorch's."""
    net = Classifier(shape, 10).double()
    images = torch.rand(PIXELS // shape[1] ** 2 + 5, *shape) * 2 - 1
    with torch.no_grad():
        found = net(images)[0]
    assert torch.allclose(found, net.body(images.double()).detach(), rtol=1e-12, atol=1e-14)
