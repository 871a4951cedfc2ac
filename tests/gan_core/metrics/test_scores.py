"""The measures of a game: the same numbers for any batch size, order of merging, rounding or number of workers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from gan_core import data
from gan_core.data.dataset import Dataset
from gan_core.experiment import Data, Experiment
from gan_core.loop import Game
from gan_core.measures import Metrics
from gan_core.metrics.extractors.custom_extractor import custom_extractor
from gan_core.metrics.extractors.extractor import Extractor, FeatureNet, PixelFeatures
from gan_core.metrics.fid import frechet_distance
from gan_core.metrics.inception_score import inception_score
from gan_core.metrics.scores import sample_count, sample_range, scores
from gan_core.metrics.statistics import reference as references
from gan_core.metrics.statistics.moments import Moments
from gan_core.metrics.statistics.reference import Reference
from gan_core.metrics.statistics.tally import Tally
from gan_core.settings import SettingsError


class Halves(FeatureNet):
    """A custom extractor: the means of the upper half, of the lower half and of the whole."""

    classes = 2

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(2))

    def forward(self, images):
        means = torch.stack([half.mean(dim=(1, 2, 3)) for half in images.chunk(2, dim=2)], dim=1)
        return torch.cat([means * self.weight, means.mean(dim=1, keepdim=True) ** 2], dim=1), means


HALVES = f"{__name__}:Halves"


@pytest.fixture(scope="module")
def game() -> Game:
    settings = Experiment.load({"family": "dcgan"}).override("family.width=4", "metrics.samples=600")
    return Game(settings, (1, 16, 16))


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    return torch.rand(700, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def fid_of(reference, images, batch):
    tally = Tally(reference.extractor, len(images)).extend(images.split(batch))
    return frechet_distance(reference.target, tally.moments.gaussian)


@pytest.mark.parametrize("batch", [1, 7, 512])
def test_fid_does_not_depend_on_the_batch(reference, noise, digits, batch):
    for images in (noise, digits.images[:700]):
        assert fid_of(reference, images, batch) == pytest.approx(fid_of(reference, images, 700), rel=1e-9)


def test_fid_of_merged_halves_is_that_of_the_whole(reference, noise):
    parts = [Moments.of(reference.extractor.features(part)) for part in (noise[:1], noise[1:300], noise[300:])]
    merged = parts[2].merge(parts[0]).merge(parts[1])
    assert frechet_distance(reference.target, merged.gaussian) == pytest.approx(fid_of(reference, noise, 64), rel=1e-9)


@pytest.mark.parametrize("batch", [7, 512])
def test_a_games_fid_does_not_depend_on_how_its_samples_are_cut(game, reference, monkeypatch, batch):
    wanted = scores(game, reference)
    monkeypatch.setattr(references, "BATCH", batch)
    found = scores(game, reference)
    assert found == pytest.approx(wanted, rel=1e-9)


def test_the_inception_score_is_that_of_all_logits_at_once(game, reference):
    logits = reference.extractor(sample_range(game, 0, 600))[1]
    found = scores(game, reference)["inception_score"]
    assert found == pytest.approx(inception_score(logits).mean, rel=1e-9)


def test_variety_is_the_features_total_variance_in_units_of_the_real_ones(game, reference, digits):
    samples = reference.extractor.features(sample_range(game, 0, 600)).numpy()
    real = reference.extractor.features(digits.images).numpy()
    wanted = samples.var(axis=0, ddof=1).sum() / real.var(axis=0, ddof=1).sum()
    assert scores(game, reference)["variety"] == pytest.approx(wanted, rel=1e-9)


def test_the_real_images_have_a_variety_of_one(reference, digits):
    game = Game(Experiment.load({"family": "dcgan"}).override("family.width=4", "data.batch_size=4"), (1, 16, 16))
    parts = iter(digits.images.split(references.batch_of((1, 16, 16))))
    game.sample = lambda z, labels: next(parts)
    assert scores(game, reference)["variety"] == pytest.approx(1, rel=1e-9)


def test_of_mixtures_modes_are_counted():
    ring = data.load(Data(name="ring8"))
    game = Game(Experiment.load({"family": "wgan", "data": {"name": "ring8"}}), (2,))
    reference = Reference.build(Metrics(), ring)
    game.sample = lambda z, labels: ring.images[: len(z)]  # always 256 of the first mode's thousand
    found = scores(game, reference)
    assert found["modes"] == 1
    assert found["high_quality"] == pytest.approx(1 - np.exp(-4.5), abs=0.02)
    assert "inception_score" not in found


# Inputs


def test_uint8_images_are_what_they_are_as_floats(reference):
    pixels = torch.from_numpy(load_digits().images[:40] * 15).byte()[:, None].repeat_interleave(2, 2)
    pixels = pixels.repeat_interleave(2, 3)
    floats = pixels.double() / 127.5 - 1
    one, other = reference.extractor.features(pixels), reference.extractor.features(floats)
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("level", [1.5, -2.0, 255.0, float("nan"), float("inf")])
def test_images_out_of_range_are_refused_and_give_no_number(reference, noise, level):
    images = noise.clone()
    images[3, 0, 2, 2] = level
    with pytest.raises(ValueError, match=r"images range from .* wanted: \[-1, 1\]"):
        reference.extractor(images)


def test_quantisation_is_a_choice(noise):
    assert not torch.equal(Extractor(PixelFeatures()).features(noise), noise.flatten(1))
    assert torch.equal(Extractor(PixelFeatures(), quantise=False).features(noise), noise.flatten(1))
    assert "256 levels" in Extractor(PixelFeatures()).about()["input_range"]
    assert "256 levels" not in Extractor(PixelFeatures(), quantise=False).about()["input_range"]


# Custom extractors


def test_an_extractor_of_ones_own_measures(digits, game):
    reference = Reference.build(Metrics(extractor=HALVES), digits)
    upper = digits.images[:, :, :8].mean(dim=(1, 2, 3)).double().numpy()
    assert reference.target.mean[0] == pytest.approx(upper.mean(), abs=1e-4)
    assert reference.target.covariance[0, 0] == pytest.approx(upper.var(ddof=1), rel=1e-2)
    found = scores(game, reference)
    assert found["fid"] > 0
    assert found["inception_score"] >= 1
    again = Reference.from_bytes(reference.to_bytes(), digits)
    assert scores(game, again) == found
    assert again.extractor.about()["extractor"] == HALVES


def test_its_weights_come_from_a_file_and_change_the_key(digits, tmp_path):
    file = tmp_path / "weights.pth"
    torch.save({"weight": torch.tensor([1.0, 3.0])}, file)
    plain, weighted = Metrics(extractor=HALVES), Metrics(extractor=HALVES, weights=file)
    one, other = (Reference.build(settings, digits) for settings in (plain, weighted))
    assert other.target.mean[1] == pytest.approx(3 * float(one.target.mean[1]), rel=1e-5)
    assert one.extractor.digest != other.extractor.digest
    assert Reference.key(plain, digits) != Reference.key(weighted, digits)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module:Net", "finds no module 'no_such_module'"),
        (f"{__name__}:Nothing", "has no 'Nothing'"),
        ("collections:OrderedDict", "is no FeatureNet"),
    ],
)
def test_one_that_cannot_be_had_is_named(digits, name, said):
    with pytest.raises(SettingsError, match=f"metrics.extractor={name}.*{said}.*nearest"):
        Reference.build(Metrics(extractor=name), digits)


# Number of reference images


def test_the_reference_may_be_of_fewer_images(digits):
    whole, some = (Reference.build(Metrics(extractor="pixels", reference_samples=n), digits) for n in (None, 300))
    assert (whole.count, some.count) == (1797, 300)
    assert frechet_distance(whole.target, some.target) > 0
    assert Reference.key(Metrics(), digits) != Reference.key(Metrics(reference_samples=300), digits)
    assert Reference.key(Metrics(), digits) != Reference.key(Metrics(quantise=False), digits)


@pytest.mark.parametrize(
    ("asked", "of", "count"),
    [(None, 1797, 1797), (None, 60_000, 10_000), (50_000, 60_000, 50_000), (None, None, 10_000)],
)
def test_a_large_set_is_measured_by_ten_thousand_samples(reference, asked, of, count):
    assert sample_count(asked, replace(reference, count=of)) == count


def test_published_statistics_are_measured_against(digits, tmp_path, game):
    mine = Reference.build(Metrics(extractor="pixels"), digits)
    values = references.Extractor(PixelFeatures()).features(digits.images).double().numpy()
    np.savez(tmp_path / "stats.npz", mu=values.mean(0), sigma=np.cov(values, rowvar=False))
    settings = Metrics(extractor="pixels", statistics=tmp_path / "stats.npz")
    theirs = Reference.build(settings, digits)
    assert theirs.count is None
    assert frechet_distance(mine.target, theirs.target) == pytest.approx(0, abs=1e-6)
    assert Reference.key(settings, digits) != Reference.key(Metrics(extractor="pixels"), digits)
    assert scores(game, theirs)["fid"] == pytest.approx(scores(game, mine)["fid"], rel=1e-6)


# Kept features


def test_features_are_kept_of_images_chosen_at_random_not_of_the_first():
    """Mixtures and folders are sorted, so the first images would be of a few classes only."""
    points = torch.arange(1000.0)[:, None].repeat(1, 2)
    whole = Tally(Extractor(PixelFeatures()), 1000, keep=100).extend(points.split(64)).features()
    assert whole.shape == (100, 2)
    assert 350 < float(whole[:, 0].mean()) < 650
    assert float(whole[:, 0].max()) > 900
    once = Tally(Extractor(PixelFeatures()), 1000, keep=100).extend([points]).features()
    assert torch.equal(whole, once)
    assert len(Tally(Extractor(PixelFeatures()), 1000, keep=5000).extend([points]).features()) == 1000


def test_statistics_of_another_width_are_told_when_the_reference_is_made(digits, tmp_path):
    np.savez(tmp_path / "stats.npz", mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(ValueError, match="it is of 3 features, pixels gives 256"):
        Reference.build(Metrics(extractor="pixels", statistics=tmp_path / "stats.npz"), digits)


def test_large_images_are_measured_a_few_at_a_time():
    assert references.batch_of((1, 16, 16)) == 256
    assert references.batch_of((3, 256, 256)) == 42
    assert references.batch_of((3, 4096, 4096)) == 1


def test_pixels_of_large_images_are_refused():
    large = Dataset("large", torch.zeros(3, 3, 64, 64), torch.zeros(3, dtype=torch.int64), 1)
    with pytest.raises(SettingsError, match="12288 values.*nearest: metrics.extractor=inception-v3"):
        Reference.build(Metrics(), large)


def test_another_source_is_another_extractor(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = "from gan_core.metrics.extractors.extractor import FeatureNet\nclass Net(FeatureNet):\n    "
    text += "def forward(self, images):\n        return images.flatten(1) * {}, None\n"
    digests = []
    for factor in (1.0, 2.0):
        name = f"own_net_{int(factor)}"
        (tmp_path / f"{name}.py").write_text(text.format(factor))
        digests.append(custom_extractor(f"{name}:Net", None, True).digest)
    assert digests[0] != digests[1]


def test_a_module_that_cannot_be_read_is_told_in_a_line(tmp_path, monkeypatch, digits):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_net.py").write_text("class Net(")
    with pytest.raises(
        SettingsError, match="metrics.extractor=broken_net:Net: importing broken_net raises SyntaxError"
    ):
        Reference.build(Metrics(extractor="broken_net:Net"), digits)
    (tmp_path / "junk.pth").write_bytes(b"junk")
    with pytest.raises(ValueError, match="junk.pth is no state dict of .*nearest: metrics.weights=null"):
        custom_extractor(HALVES, tmp_path / "junk.pth", True)
