"""`ganfleet evaluate` with Inception, side by side with torch-fidelity: the same images, the same (random) weights."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image
from rich.console import Console
from torch_fidelity import metric_kid

from gan_core import checkpoint
from gan_core.experiment import Experiment
from gan_core.loop import Game
from gan_core.measures import Metrics
from gan_core.metrics.scores import sample_range
from pipelines.evaluate.command import EvaluateOptions, evaluate_checkpoint, evaluate_images
from tests.gan_core.metrics.inception_weights import write_random_weights

pytestmark = pytest.mark.full

FAKES, REALS = 22, 26


def write_images(folder: Path, count: int, seed: int, contrast: float) -> Path:
    """Colour images of 24x20 pixels, each with its own gradient and noise."""
    folder.mkdir()
    draw = np.random.default_rng(seed)
    slope = np.linspace(0, 1, 24)[:, None, None]
    for index in range(count):
        image = contrast * slope * draw.random(3) + (1 - contrast) * draw.random((24, 20, 3))
        Image.fromarray((image * 255).astype(np.uint8)).save(folder / f"{index:03d}.png")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("inception")
    write_images(place / "fake", FAKES, 0, 0.3)
    write_images(place / "real", REALS, 1, 0.9)
    write_random_weights(place / "weights.pth")
    return place


def in_float64(kernel):
    """The kernel of torch-fidelity in float64. In float32, as it comes, its rounding alone changes KID by 3e-6 on some
    processors, because KID is a small difference of large sums."""
    return lambda x, y, **more: kernel(x.astype(np.float64), y.astype(np.float64), **more)


def by_torch_fidelity(place: Path, fake: Path, real: Path, fakes: int) -> dict[str, float]:
    with patch.object(metric_kid, "kernel_poly", in_float64(metric_kid.kernel_poly)):
        return _by_torch_fidelity(place, fake, real, fakes)


def _by_torch_fidelity(place: Path, fake: Path, real: Path, fakes: int) -> dict[str, float]:
    return torch_fidelity.calculate_metrics(
        input1=str(fake),
        input2=str(real),
        fid=True,
        kid=True,
        isc=True,
        kid_subset_size=fakes,
        feature_extractor_weights_path=str(place / "weights.pth"),
        cuda=False,
        cache=False,
        save_cpu_ram=True,  # no worker processes
        verbose=False,
    )


def assert_equal(found: dict, wanted: dict) -> None:
    assert found["fid"] == pytest.approx(wanted["frechet_inception_distance"], rel=1e-6)
    assert found["kid"] == pytest.approx(wanted["kernel_inception_distance_mean"], rel=1e-6)
    assert found["inception_score"] == pytest.approx(wanted["inception_score_mean"], rel=1e-6)
    assert found["inception_score_std"] == pytest.approx(wanted["inception_score_std"], rel=1e-2)


def test_two_folders_score_as_torch_fidelity_says(place, tmp_path):
    settings = Metrics(extractor="inception-v3", weights=place / "weights.pth")
    found = evaluate_images(place / "fake", place / "real", settings, EvaluateOptions(tmp_path, Console(quiet=True)))
    assert_equal(found, by_torch_fidelity(place, place / "fake", place / "real", FAKES))
    assert found["fid"] > 1
    assert found["fid.extractor"] == "inception-v3"
    assert "299x299" in found["fid.resize"]
    assert any("22 generated images for 2048 features" in warning for warning in found["warnings"])
    assert any("not the published weights" in warning for warning in found["warnings"])


def test_a_checkpoint_scores_as_its_samples_in_files_do(place, tmp_path):
    """Grey samples of a generator: we quantise and repeat them as RGB, torch-fidelity reads them from PNG files."""
    game = Game(Experiment.load({"family": "dcgan"}).override("family.width=4", "data.image_size=8"), (1, 8, 8))
    saved = checkpoint.save(game, tmp_path / "checkpoint")
    (tmp_path / "fake").mkdir()
    for index, image in enumerate(sample_range(game, 0, FAKES)):
        levels = ((image[0] + 1) * 127.5).round().to(torch.uint8).numpy()
        Image.fromarray(levels).convert("RGB").save(tmp_path / "fake" / f"{index:03d}.png")
    settings = Metrics(extractor="inception-v3", weights=place / "weights.pth", samples=FAKES, reference_samples=30)
    found = evaluate_checkpoint(
        saved, settings, EvaluateOptions(tmp_path, Console(quiet=True), statistics=tmp_path / "s.npz")
    )
    folder = evaluate_images(
        tmp_path / "fake", tmp_path / "s.npz", settings, EvaluateOptions(tmp_path, Console(quiet=True))
    )
    assert found["fid"] == pytest.approx(folder["fid"], rel=1e-6)
    wanted = by_torch_fidelity(place, tmp_path / "fake", place / "real", FAKES)
    assert found["inception_score"] == pytest.approx(wanted["inception_score_mean"], rel=1e-6)
    assert found["fid.reference_samples"] == "30"
