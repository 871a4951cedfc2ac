import math

import numpy as np
import pytest
import safetensors.torch
import scipy.linalg
import torch
from tests.gan_core.games import new_game, play, small
from torch.testing import assert_close

from gan_core import data, streams
from gan_core.data import Dataset
from gan_core.experiment import Data, Metrics
from gan_core.metrics.extractors import TOTAL_VARIANCE, Extractor, Pixels, quantised, train_classifier
from gan_core.metrics.fid import frechet_distance, root
from gan_core.metrics.reference import Reference, extractor_name, sample_range
from gan_core.metrics.statistics import Moments
from gan_core.settings import SettingsError


def features(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """Correlated features off the origin, each coordinate with its own scale."""
    draw = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=draw, dtype=torch.float64) * torch.logspace(-2, 1, size).double()
    return torch.randn(count, size, generator=draw, dtype=torch.float64) @ mixing + 50


def by_schur(product: np.ndarray) -> float:
    """The trace of a root, by SciPy's general matrix root."""
    return float(np.trace(scipy.linalg.sqrtm(product).real))


def by_eigenvalues(product: np.ndarray) -> float:
    """The same for a singular product, which has no reliable matrix root: eigenvalues of a general matrix."""
    return float(np.sqrt(scipy.linalg.eigvals(product).real.clip(0)).sum())


def by_scipy(one: torch.Tensor, other: torch.Tensor, trace_of_root=by_schur) -> float:
    """Heusel et al. 2017, equation 6, with numpy.cov."""
    one, other = one.double().numpy(), other.double().numpy()
    covariances = [np.atleast_2d(np.cov(each, rowvar=False)) for each in (one, other)]
    shared = trace_of_root(covariances[0] @ covariances[1])
    apart = one.mean(0) - other.mean(0)
    return float(apart @ apart + sum(map(np.trace, covariances)) - 2 * shared)


def gaussian(mean, covariance, count: int = 1001) -> Moments:
    covariance = torch.as_tensor(covariance, dtype=torch.float64)
    return Moments(count, torch.as_tensor(mean, dtype=torch.float64), covariance * (count - 1))


# Moments


@pytest.mark.parametrize("cuts", [[], [1], [37], [1, 2, 3], [5, 100, 101, 180], list(range(1, 200))])
def test_moments_merged_from_any_split_are_numpys(cuts):
    values = features(200, 6)
    parts = [Moments.of(part) for part in values.tensor_split(cuts)]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.merge(part)
    assert whole.count == 200
    assert_close(whole.mean.numpy(), values.numpy().mean(0), rtol=1e-12, atol=0)
    assert_close(whole.covariance.numpy(), np.cov(values.numpy(), rowvar=False), rtol=1e-12, atol=1e-12)


def test_merging_keeps_its_digits_far_from_the_origin():
    """A sum of squares minus a square of sums would have none left at 1e8."""
    values = features(100, 3) + 1e8
    merged = Moments.of(values[:30]).merge(Moments.of(values[30:]))
    assert_close(merged.covariance.numpy(), np.cov((values - 1e8).numpy(), rowvar=False), rtol=1e-6, atol=1e-6)


def test_moments_are_float64_whatever_the_features_are():
    assert Moments.of(features(10, 3).float()).scatter.dtype == torch.float64
    assert Moments.of(features(10, 3).bfloat16()).mean.dtype == torch.float64


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_features_that_are_no_numbers_are_an_error(bad):
    values = features(10, 3)
    values[4, 1] = bad
    with pytest.raises(ValueError, match="1 values that are not finite"):
        Moments.of(values)


def test_one_sample_has_no_covariance():
    with pytest.raises(ValueError, match="2 samples or more, there is 1"):
        frechet_distance(Moments.of(features(1, 3)), Moments.of(features(9, 3)))


# Fréchet distance


@pytest.mark.parametrize(("count", "size"), [(500, 1), (500, 7), (2000, 64)])
def test_the_distance_is_scipys(count, size):
    one, other = features(count, size), 1.3 * features(count // 2, size, seed=1) - 12
    found = frechet_distance(Moments.of(one), Moments.of(other))
    assert found == pytest.approx(by_scipy(one, other), rel=1e-6)


def test_the_distance_of_diagonal_gaussians_is_its_closed_form():
    """|m - m'|^2 + sum (s - s')^2."""
    one = gaussian([0.0, 1.0, 5.0], np.diag([4.0, 9.0, 0.25]))
    other = gaussian([3.0, 1.0, 1.0], np.diag([1.0, 9.0, 16.0]))
    assert frechet_distance(one, other) == pytest.approx(9 + 16 + 1 + 0 + 3.5**2, rel=1e-12)


def test_the_distance_of_commuting_covariances_is_its_closed_form():
    axes = scipy.stats.ortho_group.rvs(5, random_state=0)
    spreads = np.array([[1.0, 2.0, 3.0, 0.5, 0.0], [2.0, 2.0, 0.0, 1.5, 0.0]])
    one, other = (gaussian(np.zeros(5), axes @ np.diag(s**2) @ axes.T) for s in spreads)
    wanted = float(((spreads[0] - spreads[1]) ** 2).sum())
    assert frechet_distance(one, other) == pytest.approx(wanted, rel=1e-6)


def test_the_distance_is_symmetric_and_zero_only_at_itself():
    one, other = Moments.of(features(300, 8)), Moments.of(features(300, 8, seed=1))
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9 * float(one.covariance.trace()))
    assert frechet_distance(one, other) > 1
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one), rel=1e-9)


@pytest.mark.parametrize("count", [2, 10, 63])
def test_fewer_samples_than_features(count):
    """By singular values: tr (C C')^(1/2) is the nuclear norm of A A'^T for C = A^T A, C' = A'^T A'."""
    one, other = features(count, 64), features(count + 5, 64, seed=1)
    halves = [(each - each.mean(0)).numpy() / math.sqrt(len(each) - 1) for each in (one, other)]
    shared = np.linalg.svd(halves[0] @ halves[1].T, compute_uv=False).sum()
    apart = float((one.mean(0) - other.mean(0)).square().sum())
    wanted = apart + sum(float((half**2).sum()) for half in halves) - 2 * shared
    found = frechet_distance(Moments.of(one), Moments.of(other))
    assert found == pytest.approx(wanted, rel=1e-6)


def test_points_without_any_spread():
    still = gaussian([3.0, 4.0], np.zeros((2, 2)))
    assert frechet_distance(still, gaussian([0.0, 0.0], np.zeros((2, 2)))) == pytest.approx(25)
    assert frechet_distance(still, gaussian([0.0, 0.0], np.eye(2))) == pytest.approx(27)


def test_the_root_squared_is_the_covariance():
    covariance = Moments.of(features(5, 9)).covariance
    half = root(covariance)
    assert_close(half @ half, covariance, rtol=1e-9, atol=1e-9 * float(covariance.trace()))
    assert_close(half, half.T)


# Extractors


def test_images_are_scored_as_a_png_keeps_them():
    levels = torch.linspace(-1, 1, 256)
    assert_close(quantised(levels), levels, rtol=0, atol=1e-6)
    assert_close(quantised(levels + 0.003), levels, rtol=0, atol=1e-6)
    assert_close(quantised(torch.tensor([-7.0, 7.0])), torch.tensor([-1.0, 1.0]))
    assert len(quantised(torch.linspace(-1, 1, 10_001)).unique()) == 256


def test_the_classifier_knows_the_digits(reference, digits):
    assert 0.95 < reference.extractor.accuracy <= 1
    guesses = reference.extractor.net.logits(digits.images).argmax(1)
    assert (guesses == digits.labels).double().mean() > 0.95
    values = reference.extractor.features(digits.images)
    assert values.shape == (1797, 64)
    assert values.dtype == torch.float32
    assert float(values.double().var(0).sum()) == pytest.approx(TOTAL_VARIANCE, rel=1e-4)


def test_a_short_training_is_repeated_to_the_bit_and_leaves_the_global_generator_alone(digits):
    few = Dataset("few", digits.images[:200], digits.labels[:200], 10)
    before = torch.get_rng_state()
    one, other = train_classifier(few, epochs=1), train_classifier(few, epochs=1)
    assert one.digest == other.digest
    assert one.digest != train_classifier(few, epochs=2).digest
    assert torch.equal(before, torch.get_rng_state())


def test_the_accuracy_is_of_images_that_were_not_trained_on(digits):
    """With labels at random it is a guess among 10, however well the rest is learned by heart."""
    few = Dataset("few", digits.images[:250], torch.arange(250) * 7 % 10, 10)
    assert train_classifier(few, epochs=15).accuracy < 0.35


def test_pixels_are_the_samples_themselves():
    points = torch.randn(4, 2)
    assert torch.equal(Extractor(Pixels()).features(points), points)
    images = torch.rand(4, 1, 8, 8) * 2 - 1
    assert torch.equal(Extractor(Pixels()).features(images), quantised(images).flatten(1))


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
    assert reference.moments.count == 1797
    assert_close(reference.moments.mean.numpy(), values.mean(0), rtol=1e-5, atol=1e-5)
    assert_close(reference.moments.covariance.numpy(), np.cov(values, rowvar=False), rtol=1e-4, atol=1e-4)


def test_to_bytes_and_back(reference, digits):
    again = Reference.from_bytes(reference.to_bytes(), digits)
    assert again.extractor.digest == reference.extractor.digest
    assert again.extractor.accuracy == reference.extractor.accuracy
    assert again.moments.count == reference.moments.count
    assert torch.equal(again.moments.mean, reference.moments.mean)
    assert torch.equal(again.moments.scatter, reference.moments.scatter)
    images = digits.images[:50]
    assert torch.equal(again.extractor.features(images), reference.extractor.features(images))


def test_to_bytes_and_back_for_points():
    ring = data.load(Data(name="ring8"))
    reference = Reference.build(Metrics(), ring)
    again = Reference.from_bytes(reference.to_bytes(), ring)
    assert again.extractor.net.name == "pixels"
    assert again.extractor.accuracy is None
    assert_close(again.moments.covariance.numpy(), np.cov(ring.images.double().numpy(), rowvar=False))


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
    assert found.moments.count == 899


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


# FID


def test_noise_scores_badly_and_real_digits_well(reference, digits):
    draw = torch.Generator().manual_seed(0)
    noise = torch.rand(digits.images.shape, generator=draw) * 2 - 1
    assert frechet_distance(reference.moments, Moments.of(reference.extractor.features(noise))) > 2000
    for _ in range(3):
        halves = digits.images[torch.randperm(1797, generator=draw)].tensor_split(2)
        one, other = (Moments.of(reference.extractor.features(half)) for half in halves)
        assert 0 < frechet_distance(one, other) < 60


def test_a_generator_of_one_image_scores_badly(reference, digits):
    """Mode collapse, onto each of three real digits."""
    for index in (0, 1, 2):
        features = reference.extractor.features(digits.images[[index] * 300])
        assert frechet_distance(reference.moments, Moments.of(features)) > 1000


@pytest.mark.parametrize("samples", [2, 100, 300, None])
def test_fid_is_that_of_its_samples_in_batches_of_any_size(reference, samples):
    game = new_game(small("wgan"))
    play(game, 1)
    count = samples or 1797
    z = streams.latents(0, "evaluation", 0, count, 8, game.device, torch.float32)
    values = torch.cat([reference.extractor.features(game.sample(part)) for part in z.split(77)])
    found = reference.fid(game, samples)
    assert found == pytest.approx(frechet_distance(reference.moments, Moments.of(values)), rel=1e-6)
    assert found > 100


def test_fid_is_scipys(reference, digits):
    game = new_game(small("dcgan"))
    play(game, 5)
    fake = reference.extractor.features(torch.cat([sample_range(game, a, a + 100) for a in range(0, 400, 100)]))
    wanted = by_scipy(reference.extractor.features(digits.images), fake, by_eigenvalues)
    assert reference.fid(game, 400) == pytest.approx(wanted, rel=1e-5)


def test_a_generator_of_nan_is_an_error_and_no_number(reference):
    game = new_game(small("wgan"))
    for weight in game.average.parameters():
        weight.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        reference.fid(game, 10)


def test_evaluating_changes_nothing(reference):
    one, other = new_game(small("dcgan")), new_game(small("dcgan"))
    play(one, 2)
    play(other, 1)
    reference.fid(other, 50)
    play(other, 1)
    assert reference.fid(one, 50) == reference.fid(other, 50)
