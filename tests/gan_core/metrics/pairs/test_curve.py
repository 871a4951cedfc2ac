"""Precision against recall by clusters, and FID by class, against other ways of computing them."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from gan_core.metrics.by_class import class_distances, moments_by_class
from gan_core.metrics.fid import frechet_distance
from gan_core.metrics.pairs.curve import ANGLES, prd, precision_recall_curve
from gan_core.metrics.statistics.moments import Moments

DRAW = torch.Generator().manual_seed(3)


def test_a_curve_is_the_published_sums_at_each_slope():
    real, fake = torch.tensor([0.5, 0.3, 0.2, 0.0]), torch.tensor([0.1, 0.6, 0.0, 0.3])
    curve = prd(real, fake)
    angles = np.linspace(1e-6, math.pi / 2 - 1e-6, ANGLES)
    for index in (0, 1, 333, 500, 750, 1000):
        slope = math.tan(angles[index])
        pairs = list(zip(real.tolist(), fake.tolist(), strict=True))
        assert float(curve.precision[index]) == pytest.approx(sum(min(slope * p, q) for p, q in pairs), abs=1e-6)
        assert float(curve.recall[index]) == pytest.approx(sum(min(p, q / slope) for p, q in pairs), abs=1e-6)


def test_equal_sets_are_precise_and_recalled_and_sets_apart_are_neither():
    states = torch.tensor([0.2, 0.3, 0.5])
    assert prd(states, states).f_beta() == pytest.approx(1, abs=1e-5)
    assert prd(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])).f_beta() == 0


def test_half_of_the_modes_cost_recall_and_half_of_the_samples_off_cost_precision():
    centres = torch.eye(20) * 100
    real = centres.repeat(10, 1) + torch.randn(200, 20, generator=DRAW)
    half = centres[:10].repeat(20, 1) + torch.randn(200, 20, generator=DRAW)
    dropped = precision_recall_curve(real, half)
    assert dropped.f_beta(1 / 8) > 0.95
    assert dropped.f_beta(8) == pytest.approx(0.5, abs=0.06)
    added = precision_recall_curve(half, real)
    assert added.f_beta(8) > 0.95
    assert added.f_beta(1 / 8) == pytest.approx(0.5, abs=0.06)
    again = precision_recall_curve(real, half)
    assert torch.equal(again.precision, dropped.precision)


def test_too_few_features_for_the_clusters_are_an_error():
    with pytest.raises(ValueError, match="20 or more are needed"):
        precision_recall_curve(torch.zeros(30, 2), torch.zeros(19, 2))


def test_fid_of_a_class_is_that_of_its_images_alone_and_few_have_none():
    images, labels = torch.randn(90, 4, generator=DRAW), torch.arange(90) % 3
    labels[labels == 2] = torch.where(torch.arange(30) < 26, 0, 2)  # four are left of class 2
    batches = list(zip(images.split(20), labels.split(20), strict=True))
    real = moments_by_class(lambda batch: batch.double(), batches)
    fake = moments_by_class(lambda batch: batch.double() * 2 + 1, batches)
    found = class_distances(real, fake, 4)
    for label in (0, 1):
        ours = images[labels == label].double()
        wanted = frechet_distance(Moments.of(ours).gaussian, Moments.of(ours * 2 + 1).gaussian)
        assert found[label].fid == pytest.approx(wanted, rel=1e-9)
    assert [(one.real, one.generated) for one in found] == [(56, 56), (30, 30), (4, 4), (0, 0)]
    assert found[2].fid is None
    assert found[3].fid is None
    assert_close(real[0].mean, images[labels == 0].double().mean(0))
