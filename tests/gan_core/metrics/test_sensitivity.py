"""How FID reacts to real images that were made worse, against SciPy's blur and FIDs of chosen images."""

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.testing import assert_close

from gan_core import data
from gan_core.data.dataset import Dataset
from gan_core.experiment import Data
from gan_core.measures import Metrics
from gan_core.metrics.fid import frechet_distance
from gan_core.metrics.sensitivity import COPIES, NOISES, Reaction, blurred, images_measured, reactions, rises
from gan_core.metrics.statistics.moments import Moments
from gan_core.metrics.statistics.reference import Reference


@pytest.fixture(scope="module")
def small() -> Dataset:
    return data.load(Data(image_size=8, held_out=0.2))


@pytest.fixture(scope="module")
def by_pixels(small) -> tuple[Reference, list[Reaction], float]:
    reference, moved = Reference.build(Metrics(extractor="pixels"), small), []
    return reference, reactions(small, reference, moved.append), sum(moved)


def of(found, kind):
    return [one for one in found if one.disturbance == kind]


def test_a_blur_is_scipys(small):
    images = small.images[:5]
    for sigma in (0.5, 1.3):
        wanted = torch.stack(
            [torch.from_numpy(gaussian_filter(image[0].numpy(), sigma, mode="nearest", truncate=4)) for image in images]
        )
        assert_close(blurred(images, sigma)[:, 0], wanted, rtol=0, atol=1e-3 if sigma == 0.5 else 1e-5)


def test_fid_rises_with_blur_noise_and_dropped_classes(by_pixels):
    _, found, _ = by_pixels
    for kind in ("blur", "noise", "dropped classes"):
        assert of(found, kind)[0] == Reaction(kind, 0.0, 0.0)
        assert rises(found, kind), kind
    assert [one.level for one in of(found, "noise")] == [0.0, *NOISES]
    assert [one.level for one in of(found, "dropped classes")] == list(range(10))
    assert not rises([*found, Reaction("noise", 1.0, 0.0)], "noise")


def test_the_fid_of_dropped_classes_is_the_mean_over_classes_that_are_dropped_first(small, by_pixels):
    reference, found, _ = by_pixels
    one_dropped = []
    for label in range(10):
        kept = reference.extractor.features(small.images[small.labels != label])
        one_dropped.append(frechet_distance(reference.target, Moments.of(kept).gaussian))
    assert of(found, "dropped classes")[1].fid == pytest.approx(sum(one_dropped) / 10, rel=1e-6)


def test_copies_are_named_by_memorisation_where_fid_is_no_worse(by_pixels):
    _, found, _ = by_pixels
    copies = of(found, "copies")
    assert [one.level for one in copies] == list(COPIES)
    assert copies[0].nearer == pytest.approx(0.5, abs=0.06)
    assert copies[0].ratio == pytest.approx(1, abs=0.1)
    assert copies[-1].ratio == 0
    assert copies[-1].nearer == 1
    assert copies[-1].fid <= copies[0].fid
    nearer = [one.nearer for one in copies]
    assert nearer == sorted(nearer)


def test_the_bar_counts_what_is_measured(small, by_pixels):
    reference, _, moved = by_pixels
    assert moved == images_measured(small, reference)


def test_without_held_out_images_or_classes_there_are_none(small):
    plain = Dataset("plain", small.images[:100], torch.zeros(100).long(), 1)
    found = reactions(plain, Reference.build(Metrics(extractor="pixels"), plain))
    assert {one.disturbance for one in found} == {"blur", "noise"}


@pytest.mark.full
@pytest.mark.parametrize("name", ["digits", "photos"])
def test_the_built_in_classifiers_fid_rises(name, tmp_path):
    dataset = data.load(Data(name=name, held_out=0.2), tmp_path)
    found = reactions(dataset, Reference.build(Metrics(reference_samples=1400), dataset))
    for kind in ("blur", "noise", "dropped classes"):
        assert rises(found, kind), kind
    assert of(found, "copies")[-1].nearer == 1
