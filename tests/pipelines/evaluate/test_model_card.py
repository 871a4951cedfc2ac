"""The model card of an exported generator: what it says is true, and what it shows works."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml

from gan_core import checkpoint
from gan_core.checkpoint import open_generator
from gan_core.loop import Game
from gan_core.settings import SettingsError
from pipelines import load
from pipelines.cli.commands._run_summary import summary_of
from pipelines.evaluate.export import export
from pipelines.launch._request import train_experiment
from pipelines.runs import RunFolder, keep_measure
from tests.pipelines.small_runs import PlayedRun, ganfleet_here, small_train

SUFFIXES = {"onnx": "onnx", "torch": "pt2", "safetensors": "safetensors"}
DIGEST = "5" * 64


@pytest.fixture(scope="module")
def known(played: PlayedRun, tmp_path_factory) -> PlayedRun:
    """A copy of the run with the records that its driver would have written."""
    folder = RunFolder(tmp_path_factory.mktemp("known") / "played")
    shutil.copytree(played.folder.path, folder.path)
    about = {"digest": DIGEST, "images": 1797, "held_out": 0, "shape": [1, 8, 8], "classes": 10, "class_names": []}
    folder.data.write_text(json.dumps(about))
    keep_measure(folder, {"ganfleet.fid.extractor": "classifier", "ganfleet.fid.weights": "12ab", "other": "x"})
    return PlayedRun(played.experiment, folder, played.steps)


def block(card: str, language: str) -> str:
    (found,) = re.findall(rf"(?s)```{language}\n(.*?)```", card)
    return found


def test_a_hub_reads_what_was_trained_on_what_and_measured_how(known, tmp_path):
    newest = known.folder.checkpoints()[-1]
    done = export(newest, "torch", f"{tmp_path}/new/")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["README.md", "generator.pt2"]
    card = huggingface_hub.ModelCard.load(done.card)
    (result,) = card.data.eval_results
    fid = known.steps[-1].metrics["fid"]
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("fid", fid, "digits")
    assert card.data.license == "unknown"
    assert card.data.pipeline_tag == "unconditional-image-generation"
    text = done.card.read_text()
    assert "license: unknown  # yours to say" in text
    assert f"| FID | {fid:.4f} at step 12; measured with: extractor `classifier`, weights `12ab` |" in text
    assert f"| data | digits: 1797 images of 1x8x8; digest `{DIGEST}` |" in text
    assert f"| trained | 12 generator updates, {12 * 2 * 16} real images |" in text
    assert checkpoint.describe(newest)["sha256"] in text
    assert yaml.safe_load(block(text, "yaml")) == checkpoint.describe(newest)["experiment"]
    assert summary_of(known.folder).name == card.data.model_name == "played"


def test_its_command_trains_the_same_generator(known, tmp_path):
    middle = known.folder.checkpoints()[-2]
    text = export(middle, "safetensors", tmp_path / "net.safetensors").card.read_text()
    ganfleet, train, family, *words = shlex.split(block(text, "shell"))
    assert (ganfleet, train, family) == ("ganfleet", "train", "wgan_gp")
    again, was = train_experiment([family], words), known.experiment
    step = checkpoint.describe(middle)["step"]
    assert step < was.budget.rounds == 12
    for name in ("seed", "family", "data", "metrics", "reliability"):
        assert getattr(again, name) == getattr(was, name)
    assert again.budget == was.budget.override(f"rounds={step}")


def test_it_says_with_which_weights_the_run_began(known, tmp_path):
    origin = {"ganfleet.init_from.checkpoint": "/a run/checkpoints/step-000002"}
    begun = RunFolder(tmp_path / "begun")
    shutil.copytree(known.folder.path, begun.path)
    begun.identity.write_text(json.dumps({"id": "0", "origin": origin}))
    text = export(begun.checkpoints()[-1], "safetensors", f"{tmp_path}/").card.read_text()
    assert shlex.split(block(text, "shell"))[-2:] == ["--init-from", "/a run/checkpoints/step-000002"]


@pytest.mark.parametrize("to", SUFFIXES)
@pytest.mark.parametrize(("family", "changes"), [("cgan", ["compute.precision=fp64"]), ("gan", ["data.name=ring8"])])
def test_its_example_draws(tmp_path, monkeypatch, to, family, changes):
    shape = (2,) if family == "gan" else (1, 8, 8)
    names_of = {"classes": 10, "class_names": ["a|b", *"cdefghijk"]} if family == "cgan" else {}
    game = Game(small_train(tmp_path, family, "drawn", *changes), shape, **names_of)
    game.step = 3
    folder = checkpoint.save(game, tmp_path / "any" / "place")
    text = export(folder, to, tmp_path / f"net.{SUFFIXES[to]}").card.read_text()
    assert (r"| classes | a\|b, c, d," in text) == (family == "cgan")
    assert "FID" not in text.partition("## Settings")[0]
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(block(text, "python"), names)
    found = names["points" if family == "gan" else "images"]
    assert tuple(found.shape) == (16, *shape)
    given = [torch.as_tensor(names[name]) for name in ("z", "label") if name in names]
    assert len(given) == (2 if family == "cgan" else 1)
    ours = game.sample(given[0].to(game.dtype), *given[1:])
    torch.testing.assert_close(torch.as_tensor(found).to(game.dtype), ours, rtol=0, atol=1e-5)


def test_the_licence_that_the_user_wrote_stays_and_other_files_too(known, tmp_path):
    newest, card = known.folder.checkpoints()[-1], tmp_path / "net.md"
    export(newest, "safetensors", tmp_path / "net.safetensors")
    card.write_text(re.sub("license: unknown.*", "license: other\nlicense_name: mine", card.read_text()))
    export(newest, "safetensors", tmp_path / "net.safetensors")
    assert card.read_text().startswith("---\nlicense: other\nlicense_name: mine\nlibrary_name: ganfleet\n")
    (tmp_path / "README.md").write_text("# My notes\n")
    for there in ("# My notes\n", "---\nlibrary_name: diffusers\n---\n", "---\n[\n---\n"):
        (tmp_path / "README.md").write_text(there)
        with pytest.raises(SettingsError, match="README.md is no model card of ganfleet; nearest: another name"):
            export(newest, "safetensors", f"{tmp_path}/")
        assert (tmp_path / "README.md").read_text() == there
    assert not (tmp_path / "generator.safetensors").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_command_writes_both_files_and_says_what_was_checked(known, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    where = f"storage.path={known.folder.path.parent}"
    done = ganfleet_here(monkeypatch, capsys, "export", "played", "--to", "torch", where)
    assert (done.returncode, done.stdout) == (0, "generator.pt2\ngenerator.md\n"), done.stderr
    assert re.fullmatch(r"64 samples by torch \S+ are those of `ganfleet sample`\n", done.stderr)
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["generator.md", "generator.pt2"]


def test_python_exports_the_same(known, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = load("played", f"storage.path={known.folder.path.parent}")
    assert run.export("safetensors") == Path("generator.safetensors")
    assert run.export("safetensors", tmp_path / "other.safetensors") == tmp_path / "other.safetensors"
    first, second = (open_generator(tmp_path / f"{name}.safetensors") for name in ("generator", "other"))
    z = torch.randn(3, 8)
    assert torch.equal(first.sample(z), run.generator(z))
    assert torch.equal(first.sample(z), second.sample(z))
    with pytest.raises(SettingsError, match="out=s3://b/x.pt2 is not on a disk; nearest: ganfleet export NAME"):
        run.export("torch", "s3://b/x.pt2")
