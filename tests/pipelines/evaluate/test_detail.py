"""Tables and pictures of `evaluate` and `sensitivity`: FID by class, precision against recall, reactions of FID."""

import csv
import json

import pytest
from PIL import Image
from rich.console import Console

from gan_core import checkpoint, data
from gan_core.experiment import Data
from gan_core.measures import Metrics
from gan_core.metrics.fid import frechet_distance
from gan_core.metrics.scores import sample_range
from gan_core.metrics.statistics.moments import Moments
from gan_core.metrics.statistics.reference import Reference
from gan_core.settings import SettingsError
from pipelines.evaluate.command import EvaluateOptions, evaluate_checkpoint
from pipelines.train.play import play
from tests.pipelines.small_runs import created, ganfleet_here, small_train


@pytest.fixture(scope="module")
def conditional(storage, reference):
    """The checkpoint of a conditional run of one round."""
    experiment = small_train(
        storage, "cgan", "classes", "budget.rounds=1", "budget.eval_every=1", "budget.checkpoint_every=1"
    )
    folder = created(experiment)
    list(play(experiment, folder, reference, target=None))
    return next((folder.path / "checkpoints").iterdir())


def test_fid_of_each_class_and_a_curve_are_told(conditional, storage, reference, tmp_path):
    files = tmp_path / "curve.png", tmp_path / "curve.csv"
    options = EvaluateOptions(storage, Console(quiet=True), by_class=True, curve=files)
    found = evaluate_checkpoint(conditional, Metrics(), options)
    digits = data.load(Data(image_size=8))
    assert [row["class"] for row in found["by_class"]] == list("0123456789")
    assert [row["real"] for row in found["by_class"]] == digits.labels.bincount().tolist()
    assert sum(row["generated"] for row in found["by_class"]) == 1797
    game, read = checkpoint.open_game(conditional), Reference.from_bytes(reference, digits)
    threes = sample_range(game, 0, 1797)[3::10]
    both = (digits.images[digits.labels == 3], threes)
    wanted = frechet_distance(*(Moments.of(read.extractor.features(images)).gaussian for images in both))
    assert found["by_class"][3]["fid"] == pytest.approx(wanted, rel=1e-6)
    with files[1].open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert len(rows) == 1001
    assert rows[0]["recall"] <= max(row["recall"] for row in rows) <= 1
    assert 0 <= found["prd_recall"] <= 1
    assert 0 <= found["prd_precision"] <= 1
    assert Image.open(files[0]).width > 300


def test_classes_that_cannot_be_measured_are_told(conditional, played, storage):
    def of(place, **settings):
        return evaluate_checkpoint(
            place, Metrics(**settings), EvaluateOptions(storage, Console(quiet=True), by_class=True)
        )

    with pytest.raises(SettingsError, match="--by-class: wgan_gp draws no class; nearest: a run of cgan"):
        of(max((played.folder.path / "checkpoints").iterdir()))
    said = "--by-class: 640 samples are 64 a class, FID of 64 features takes more; nearest: metrics.samples=650"
    with pytest.raises(SettingsError, match=said):
        of(conditional, samples=640)
    with pytest.raises(SettingsError, match="no class has more than .* real images"):
        of(conditional, samples=650, reference_samples=300)


@pytest.mark.full
def test_the_report_has_a_picture_and_a_row_for_each_level(storage, tmp_path, capsys, monkeypatch):
    out, found_file = tmp_path / "found.png", tmp_path / "found.json"
    words = ["sensitivity", "data=digits", "data.image_size=8", f"storage.path={storage}", "--out", str(out)]
    done = ganfleet_here(monkeypatch, capsys, *words, "--json", found_file)
    assert done.returncode == 0, done.stderr
    found = json.loads(found_file.read_text())
    assert "blur yes, noise yes, dropped classes yes" in done.stdout
    assert found["rises"] == {"blur": True, "noise": True, "dropped classes": True}
    assert {row["disturbance"] for row in found["reactions"]} == {"blur", "noise", "dropped classes", "copies"}
    assert found["reactions"][-1]["memorisation_nearer"] == 1
    assert Image.open(out).width > 1000
