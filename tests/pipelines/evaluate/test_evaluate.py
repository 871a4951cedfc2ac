"""`ganfleet evaluate`: checkpoints, folders of images, statistics, intervals, and input that it refuses."""

import json
import multiprocessing
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from sklearn.datasets import load_digits
from torch_fidelity.metric_fid import fid_statistics_to_metric

from gan_core import data
from gan_core.experiment import Data
from gan_core.measures import Metrics
from gan_core.metrics.parzen import parzen
from gan_core.metrics.scores import sample_range
from gan_core.metrics.statistics.reference import Reference
from gan_core.settings import SettingsError
from pipelines.evaluate.command import EvaluateOptions, evaluate_images
from pipelines.evaluate.reference import prepare_reference
from tests.benchmarks.evaluation_memory import peak
from tests.pipelines.small_runs import evaluated, ganfleet_here

QUIET = Console(quiet=True)


def write_images(folder: Path, pixels: np.ndarray) -> Path:
    """Grey images (N, H, W), uint8, as PNG files."""
    folder.mkdir()
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{index:04d}.png")
    return folder


def statistics_of(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """NumPy's statistics of the images, whose pixels in [-1, 1] are the features."""
    flat = pixels.reshape(len(pixels), -1) / 127.5 - 1
    return {"mu": flat.mean(0), "sigma": np.cov(flat, rowvar=False)}


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return (load_digits().images * 15).astype(np.uint8)


@pytest.fixture(scope="module")
def folders(pixels, tmp_path_factory) -> tuple[Path, Path]:
    """200 digits, and 300 others."""
    place = tmp_path_factory.mktemp("images")
    return write_images(place / "fake", pixels[:200]), write_images(place / "real", pixels[200:500])


@pytest.fixture(scope="module")
def wanted(pixels) -> float:
    return fid_statistics_to_metric(statistics_of(pixels[:200]), statistics_of(pixels[200:500]), verbose=False)[
        "frechet_inception_distance"
    ]


@pytest.fixture
def ganfleet(monkeypatch, capsys):
    """Runs a command in this process, which has torch imported already."""

    def run(cwd: Path, *words: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(cwd)
        return ganfleet_here(monkeypatch, capsys, *words)

    return run


# Folders


def test_two_folders(folders, wanted, tmp_path, ganfleet):
    words = [*folders, "metrics.extractor=pixels", "--json", "found.json"]
    done = ganfleet(tmp_path, "evaluate", *words)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["fid"] == pytest.approx(wanted, rel=1e-6)
    assert (found["samples"], found["fid.reference_samples"], found["warnings"]) == (200, 300, [])
    assert 0 < found["precision"] <= 1
    printed = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert float(printed["fid"]) == pytest.approx(wanted, abs=1e-4)
    assert printed["fid.extractor"] == "pixels"

    changed = folders[1] / "0007.png"
    before = changed.read_bytes()
    Image.new("L", (8, 8), 255).save(changed)
    try:
        ganfleet(tmp_path, "evaluate", *words)
        assert json.loads((tmp_path / "found.json").read_text())["fid"] != found["fid"], "a stale reference"
    finally:
        changed.write_bytes(before)


def test_statistics_go_out_and_come_in_again(folders, wanted, pixels, tmp_path, ganfleet):
    extractor = "metrics.extractor=pixels"
    done = ganfleet(tmp_path, "evaluate", folders[1], extractor, "--save-stats", "mine.npz")
    assert done.returncode == 0, done.stderr
    written = np.load(tmp_path / "mine.npz")
    for name, value in statistics_of(pixels[200:500]).items():
        np.testing.assert_allclose(written[name], value, rtol=1e-5, atol=1e-6)
    np.savez(tmp_path / "theirs.npz", **statistics_of(pixels[200:500]))
    for name in ("mine.npz", "theirs.npz"):
        done = ganfleet(tmp_path, "evaluate", folders[0], name, extractor, "--json", "found.json")
        assert done.returncode == 0, done.stderr
        found = json.loads((tmp_path / "found.json").read_text())
        assert found["fid"] == pytest.approx(wanted, rel=1e-6)
        assert found["fid.reference_samples"] == (300 if name == "mine.npz" else "unknown")
        assert "precision" not in found, "there are no real images"


def test_an_interval_holds_the_fid(folders, wanted, tmp_path):
    found = evaluate_images(*folders, Metrics(extractor="pixels"), EvaluateOptions(tmp_path, QUIET, resampled=True))
    assert found["fid_low"] < wanted < found["fid_high"]
    assert found["fid_high"] - found["fid_low"] < wanted


def test_too_few_samples_are_said(folders, pixels, tmp_path):
    few = write_images(tmp_path / "few", pixels[600:650])
    found = evaluate_images(few, folders[1], Metrics(extractor="pixels"), EvaluateOptions(tmp_path, QUIET))
    assert len(found["warnings"]) == 1
    assert "50 generated images for 64 features" in found["warnings"][0]
    assert "rank-deficient" in found["warnings"][0]


@pytest.mark.parametrize("first", ["grey", "colour"])
def test_grey_and_coloured_images_are_measured_alike_whichever_comes_first(pixels, tmp_path, first):
    """Within a folder, and between two: as RGB, which torch-fidelity and pytorch-fid make of every file."""
    tinted = np.stack([pixels[:300], pixels[:300] // 2, 255 - pixels[:300]], axis=3)
    grey_real = write_images(tmp_path / "grey", pixels[300:600])
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for index in range(300):
        grey = index < 100 if first == "grey" else index >= 200
        Image.fromarray(pixels[index] if grey else tinted[index]).save(mixed / f"{index:03d}.png")
    rgb = [np.asarray(Image.open(file).convert("RGB")) for file in sorted(mixed.iterdir())]
    wanted = fid_statistics_to_metric(
        statistics_of(np.stack(rgb)), statistics_of(np.repeat(pixels[300:600, ..., None], 3, axis=3)), verbose=False
    )["frechet_inception_distance"]
    options = EvaluateOptions(tmp_path, QUIET)
    found = evaluate_images(mixed, grey_real, Metrics(extractor="pixels"), options)
    assert found["fid"] == pytest.approx(wanted, rel=1e-5)
    assert [line.partition(": ")[0] for line in found["warnings"][:2]] == [
        f"100 of 300 images of {mixed} are grey",
        f"300 of 300 images of {grey_real} are grey",
    ]
    alone = evaluate_images(grey_real, grey_real, Metrics(extractor="pixels"), options)  # another reference
    assert alone["fid"] == pytest.approx(0, abs=1e-6)
    assert alone["warnings"] == []


def test_what_cannot_be_measured_gives_an_error_and_no_number(folders, pixels, tmp_path, ganfleet):
    (tmp_path / "empty").mkdir()
    write_images(tmp_path / "one", pixels[:1])
    write_images(tmp_path / "wide", np.zeros((3, 8, 9), np.uint8))
    write_images(tmp_path / "large", np.zeros((3, 65, 65), np.uint8))
    write_images(tmp_path / "broken", pixels[:3])
    (tmp_path / "broken" / "0001.png").write_bytes(b"\x89PNG")
    np.savez(tmp_path / "short.npz", mu=np.zeros(3), sigma=np.eye(3))
    np.savez(tmp_path / "broad.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    np.savez(tmp_path / "nan.npz", mu=np.zeros(64), sigma=np.full((64, 64), np.nan))
    real = folders[1]
    for words, said in {
        ("empty", real): ["no image in"],
        (real, "empty"): ["no image in"],
        ("one", real): ["1 image", "nearest: 2"],
        ("wide", real): ["9x8 pixels", "8x8", "72 and 64 features", "nearest: images of 8x8 in both"],
        ("large", "large"): ["4225", "nearest: metrics.extractor=inception-v3"],
        ("broken", real): ["0001.png"],
        (real, "short.npz"): ["64", "3", "nearest: ganfleet evaluate REAL_FOLDER metrics.extractor=pixels --save"],
        (real, "broad.npz"): ["2048 features", "nearest: metrics.extractor=inception-v3"],
        (real, "nan.npz"): ["nan.npz"],
        (real, "absent.npz"): ["absent.npz", "no such file"],
        (real, "absent"): ["absent", "no folder of images"],
        (real,): ["against what?"],
        (real, real, real): ["one or two targets"],
        (real, real, "metrics.samples=10"): ["metrics.samples=10", "leave it out"],
    }.items():
        done = ganfleet(tmp_path, "evaluate", *words, "metrics.extractor=pixels", "--json", "found.json")
        assert done.returncode == 2, words
        assert done.stdout == "", words
        assert done.stderr.startswith("error: "), done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert all(part in done.stderr for part in said), done.stderr
        assert not (tmp_path / "found.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["metrics.extractor=inception-v3"], "nearest: metrics.download=true"),
        (["metrics.extractor=inception-v3", "metrics.weights=nowhere.pth"], "metrics.weights="),
        ([], "nearest: metrics.extractor=inception-v3"),
        (["metrics.extractor=classifier"], "nearest: metrics.extractor=pixels, or inception-v3 with"),
        (["metrics.extractor=pixel"], "nearest: pixels"),
    ],
)
def test_an_extractor_without_weights_is_refused(folders, tmp_path, words, said, ganfleet):
    done = ganfleet(tmp_path, "evaluate", *folders, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


# Checkpoints


def test_a_checkpoint_under_another_extractor(played, storage):
    found = evaluated(played.folder.checkpoint(12), storage, "extractor=pixels", "samples=100")
    real = data.load(Data(image_size=8))
    assert found["fid.extractor"] == "pixels"
    assert found["samples"] == 100
    assert found["fid.reference_samples"] == str(len(real.images))
    assert "inception_score" not in found


@pytest.fixture(scope="module")
def with_held_out(storage):
    """A run with a fifth of the digits held out, and the measures of its last checkpoint."""
    from pipelines.train.play import play
    from tests.pipelines.small_runs import created, small_train

    words = ("data.held_out=0.2", "budget.rounds=5", "budget.eval_every=5", "budget.checkpoint_every=5")
    experiment = small_train(storage, "wgan", "with-held-out", *words)
    folder = created(experiment)
    content = prepare_reference(experiment.metrics, data.load(experiment.data), storage, QUIET).content
    list(play(experiment, folder, content, target=None))
    return folder, evaluated(folder.checkpoint(5), storage)


def test_held_out_images_bring_likelihood_and_memorisation(with_held_out):
    from gan_core import checkpoint

    folder, found = with_held_out
    game = checkpoint.open_game(folder.checkpoint(5))
    real = data.load(game.experiment.data)
    samples = sample_range(game, 0, 200).flatten(1)
    held_out = real.held_out.flatten(1)
    assert len(real.images) + len(real.held_out) == 1797
    wanted = parzen(samples, held_out[::2], held_out[1::2])
    assert found["parzen"] == pytest.approx(wanted.mean, rel=1e-9)
    assert found["memorisation"] > 1, "five rounds bring no copies"
    distance = torch.cdist(samples.double(), real.images.flatten(1).double()).amin(1)
    theirs = torch.cdist(held_out.double(), real.images.flatten(1).double()).amin(1)
    assert found["memorisation"] == pytest.approx(float(distance.quantile(0.5) / theirs.quantile(0.5)), rel=1e-5)


def test_the_picture_shows_samples_over_their_nearest_images(with_held_out):
    folder, found = with_held_out
    picture = Image.open(found["memorisation_picture"])
    assert Path(found["memorisation_picture"]).parent == folder.path
    assert picture.size == (8 * 50 + 2, 2 * 50 + 2)


def test_without_held_out_images_neither_is_told(played, storage):
    assert not {"parzen", "memorisation"} & evaluated(played.folder.checkpoint(12), storage).keys()


# The cache


def _ask(storage: Path, barrier, answers) -> None:
    built = []
    build = Reference.build
    Reference.build = lambda *args, **kwargs: built.append(1) or build(*args, **kwargs)
    barrier.wait()
    shared_reference = prepare_reference(Metrics(), data.load(Data(image_size=8)), storage, QUIET)
    answers.put((len(built), shared_reference.tags["ganfleet.fid.weights"]))


@pytest.mark.full
def test_of_several_processes_that_ask_at_once_one_computes(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_ask, args=(tmp_path, barrier, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(built for built, _ in found) == [0, 0, 1]
    assert len({weights for _, weights in found}) == 1


def test_a_damaged_cache_is_made_anew(folders, tmp_path, wanted):
    settings, asked = Metrics(extractor="pixels"), EvaluateOptions(tmp_path, QUIET)
    evaluate_images(*folders, settings, asked)
    (file,) = (tmp_path / "cache").glob("side-*.safetensors")
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (whole[:1000], bytes(flipped)):
        file.write_bytes(damaged)
        assert evaluate_images(*folders, settings, asked)["fid"] == pytest.approx(wanted, rel=1e-6)
        assert file.read_bytes() == whole


def test_a_reference_of_weights_that_changed_is_not_used(played, storage, tmp_path):
    """The key of the cache depends on the content of the weights file, not on its name."""
    weights = tmp_path / "weights.pth"
    net = "tests.gan_core.metrics.test_scores:Halves"
    found = []
    for scale in (1.0, 2.0):
        torch.save({"weight": torch.tensor([scale, 1.0])}, weights)
        found.append(
            evaluated(played.folder.checkpoint(12), tmp_path, f"extractor={net}", f"weights={weights}")["fid.reference"]
        )
    assert found[0] != found[1]


@pytest.mark.full
def test_more_samples_take_no_more_memory():
    few, many = peak(5_000, "Narrow"), peak(50_000, "Narrow")
    assert many < 1.05 * few


def test_asking_for_a_net_of_points_is_told_before_anything_is_made(tmp_path):
    with pytest.raises(SettingsError, match="nearest: metrics.extractor=pixels"):
        prepare_reference(Metrics(extractor="classifier"), data.load(Data(name="ring8")), tmp_path, QUIET)
