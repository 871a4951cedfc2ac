"""A run, as Python has it: what it says is what its files and the commands say."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from gan_core.settings import SettingsError
from pipelines import Run, evaluate, load
from pipelines.evaluate.drawing import Drawing
from pipelines.evaluate.sample_files import write_npz
from pipelines.library._callbacks import Callbacks
from tests.pipelines.small_runs import ganfleet_here, rows

QUIET = Console(quiet=True)


@pytest.fixture
def run(played) -> Run:
    return load("played", f"storage.path={played.experiment.storage.path}")


def test_it_is_found_by_name_and_by_folder(run, played):
    assert run.name == "played"
    assert run.folder == load(played.folder.path).folder == played.folder.path
    assert run.settings["family.n_critic"] == 2
    assert run.settings["family.name"] == "wgan_gp"


def test_its_metrics_are_the_logged_rows(run):
    logged = rows(run.folder)
    assert run.metrics.step.tolist() == [row["step"] for row in logged]
    assert run.metrics["loss/critic"].tolist() == [row["loss/critic"] for row in logged]
    assert run.metrics.fid.dropna().tolist() == [row["fid"] for row in logged if "fid" in row]
    assert run.fid == logged[-1]["fid"]


@pytest.mark.parametrize("seed", [0, 5, None])
def test_its_samples_are_those_of_the_command(run, tmp_path, seed):
    write_npz(run.checkpoint, tmp_path / "samples.npz", 300, Drawing(seed), QUIET)
    images = np.load(tmp_path / "samples.npz")["images"]
    samples = run.sample(300, seed=seed)
    assert (samples.shape, samples.dtype) == ((300, 1, 8, 8), torch.float32)
    assert samples.abs().max() <= 1
    drawn = ((samples + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(drawn, images)
    assert torch.equal(run.sample(3, seed=seed), samples[:3])


def test_its_generator_draws_them_too(run):
    generator = run.generator
    assert not generator.training
    assert {one.device.type for one in generator.parameters()} == {"cpu"}
    state = torch.get_rng_state()
    z = torch.randn(256, run.settings["family.latent"], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert generator(z).shape == (256, 1, 8, 8)
    run.sample(2)
    assert torch.equal(torch.get_rng_state(), state), "the program's own random numbers stay as they were"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"label": 3}, "--label=3: wgan_gp was not trained with labels; nearest: no --label"),
        ({"seed": -1}, "--seed=-1 is not in 0 to"),
        ({"n": 0}, "n=0 samples cannot be drawn; nearest: n=1"),
    ],
)
def test_samples_that_cannot_be_are_refused(run, given, said):
    with pytest.raises(SettingsError, match=said):
        run.sample(**{"n": 2, **given})


def test_a_notebook_shows_it_with_its_picture(run, played):
    page = run._repr_html_()
    (picture,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    shown = Image.open(io.BytesIO(base64.b64decode(picture)))
    assert np.array_equal(np.asarray(shown), np.asarray(Image.open(played.folder.pictures()[-1])))
    assert "<th>family.n_critic</th><td>2</td>" in page


def test_what_a_user_named_is_escaped(tmp_path, played):
    import shutil

    folder = tmp_path / "runs" / "a"
    shutil.copytree(played.folder.path, folder)
    text = (folder / "experiment.yaml").read_text()
    (folder / "experiment.yaml").write_text(
        text.replace("path: null", "path: null").replace("uri: null", "uri: sqlite:////tmp/<b>&.db")
    )
    page = load(folder)._repr_html_()
    assert "sqlite:////tmp/&lt;b&gt;&amp;.db" in page
    assert "<b>&" not in page


def test_evaluate_gives_what_the_command_writes(run, tmp_path, monkeypatch, capsys):
    where = f"storage.path={run.folder.parent}"
    done = ganfleet_here(monkeypatch, capsys, "evaluate", "played", where, "--json", tmp_path / "found.json")
    assert done.returncode == 0, done.stderr
    found = evaluate(run, "metrics.samples=200")
    assert found == json.loads((tmp_path / "found.json").read_text())
    assert found["fid"] == run.fid


def test_callbacks_are_told_and_can_neither_change_nor_break_anything(run, caplog):
    seen, screen = [], io.StringIO()

    class Careful:
        def on_log(self, run, step, metrics):
            seen.append((run.name, step))
            print(f"at step {step}")
            with pytest.raises(TypeError):
                metrics["fid"] = 0

        def on_checkpoint(self, run, step, checkpoint):
            seen.append(checkpoint)

    class Careless:
        def on_evaluation(self, run, step, metrics):
            raise SystemExit(f"no {metrics['fid']}")

    told, console = Callbacks([Careful(), Careless()], Run), Console(file=screen, width=200)
    for row in rows(run.folder):
        told(console, run._folder, row, run.checkpoint if row["step"] == 12 else None)
    steps = [row["step"] for row in rows(run.folder)]
    assert seen == [*(("played", step) for step in steps), run.checkpoint]
    said = screen.getvalue().splitlines()
    assert [line for line in said if line.startswith("at step")] == [f"at step {step}" for step in steps]
    (failure,) = [line for line in said if line.startswith("callback")]
    assert failure.startswith("callback Careless.on_evaluation: SystemExit: no ")
    assert len([one for one in caplog.records if one.exc_info]) == 3, "each with its traceback in the log"
