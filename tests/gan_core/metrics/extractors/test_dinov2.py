"""DINOv2 by way of torch.hub, with a small network in a hub folder of the same form. Nothing is downloaded."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.testing import assert_close

from gan_core.measures import Metrics
from gan_core.metrics.extractors import dinov2
from gan_core.metrics.extractors.dinov2 import COMMIT, WEIGHTS, DinoV2, load_dinov2
from gan_core.metrics.statistics.reference import Reference, build_extractor
from gan_core.settings import SettingsError

HUBCONF = """
import torch
from torch import nn

def dinov2_vitl14(pretrained=True):
    assert not pretrained, "weights are read and checked by who calls"
    return nn.Sequential(nn.AvgPool2d(56), nn.Flatten(), nn.Linear(48, 5))
"""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub folder with the repository at the pinned commit, and the weights of its network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / f"facebookresearch_dinov2_{COMMIT}"
    place.mkdir(parents=True)
    (place / "hubconf.py").write_text(HUBCONF)
    weights = tmp_path / "hub" / "checkpoints" / WEIGHTS
    weights.parent.mkdir()
    net = nn.Sequential(nn.AvgPool2d(56), nn.Flatten(), nn.Linear(48, 5))
    torch.save(net.state_dict(), weights)
    return place, weights, net


@pytest.fixture
def published(hub, monkeypatch):
    monkeypatch.setattr(dinov2, "SHA256", hashlib.sha256(hub[1].read_bytes()).hexdigest())
    return hub


def as_stein_prepares(pixels: np.ndarray) -> torch.Tensor:
    """Pillow's bicubic resize to 224x224, then ImageNet's mean and deviation: (3, 224, 224)."""
    resized = np.asarray(Image.fromarray(pixels).resize((224, 224), Image.Resampling.BICUBIC)) / 255
    normal = (resized - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return torch.from_numpy(normal).permute(2, 0, 1)


@pytest.mark.parametrize("side", [16, 300])
def test_images_are_prepared_as_in_the_published_evaluation(side):
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    found = DinoV2(nn.Identity()).prepared(image)[0].double()
    level = 1 / 255 / 0.224
    assert_close(found, as_stein_prepares(pixels), rtol=0, atol=2.01 * level)  # it rounds twice
    assert (found - as_stein_prepares(pixels)).abs().mean() < 0.05 * level


def test_features_are_the_hubs_network_of_the_file(published, digits):
    _, weights, net = published
    extractor = build_extractor(Metrics(extractor="dinov2"), "dinov2", None)
    prepared = extractor.net.prepared(digits.images[:3])
    assert_close(extractor.features(digits.images[:3]), net(prepared).detach(), atol=2e-2, rtol=1e-2)
    assert extractor.about()["extractor"] == "dinov2"
    assert extractor.digest == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert torch.equal(load_dinov2(weights).net[2].weight, net[2].weight)


def test_a_reference_by_it_goes_to_bytes_and_back(published, digits):
    settings = Metrics(extractor="dinov2", weights=published[1], reference_samples=40)
    reference = Reference.build(settings, digits)
    again = Reference.from_bytes(reference.to_bytes(), digits)
    assert torch.equal(again.target.mean, reference.target.mean)
    assert torch.equal(again.extractor.features(digits.images[:3]), reference.extractor.features(digits.images[:3]))


def test_what_was_not_fetched_is_told_with_the_setting_that_fetches_it(hub, tmp_path, monkeypatch):
    place, weights, _ = hub
    with pytest.raises(SettingsError, match=f"{WEIGHTS}: its sha256 is .*, not d5383ea8f4877b24"):
        dinov2.fetched(download=False)
    weights.rename(tmp_path / "elsewhere")
    with pytest.raises(
        SettingsError, match=r"there is no .*; nearest: metrics.download=true without metrics.weights \(1.2 GB, once"
    ):
        dinov2.fetched(download=False)
    (place / "hubconf.py").unlink()
    with pytest.raises(SettingsError, match=rf"there is no .*_{COMMIT}; nearest: metrics.download=true"):
        load_dinov2(tmp_path / "elsewhere")


def test_another_file_is_refused(hub, tmp_path):
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.ones(2)}, other)
    with pytest.raises(ValueError, match=f"no weights of dinov2 in {other}"):
        load_dinov2(other)


def test_with_download_the_code_is_asked_for_at_its_commit_and_the_digest_decides(published, monkeypatch):
    place, weights, _ = published
    asked = []

    def load(*words, **options):
        asked.append((words, options))
        place.mkdir(exist_ok=True)
        (place / "hubconf.py").write_text(HUBCONF)

    (place / "hubconf.py").unlink()
    monkeypatch.setattr(torch.hub, "load", load)
    assert dinov2.fetched(download=True) == weights
    assert asked[0][0] == (f"facebookresearch/dinov2:{COMMIT}", "dinov2_vitl14")
    assert asked[0][1]["pretrained"] is False
    assert dinov2.fetched(download=True) == weights
    assert len(asked) == 1, "once"


def test_of_what_is_no_image_it_makes_nothing():
    with pytest.raises(ValueError, match="dinov2 looks at images"):
        DinoV2(nn.Identity())(torch.zeros(2, 5))
    with pytest.raises(SettingsError, match="metrics.download has no meaning"):
        Metrics.load({"extractor": "pixels", "download": True})
    assert Metrics(extractor="dinov2", download=True).weights is None
