"""The guide "bring your own GAN", from its first line to its last: the package that it makes is built as a wheel and
installed into an environment of its own, and played by the commands and by Python, with smaller numbers of rounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from PIL import Image

from tests.guide import ROOT, blocks, commands, walked

PAGE = "docs/howto/bring-your-own-gan.md"
SMALL = "budget.rounds=8 budget.log_every=2 budget.eval_every=4 budget.checkpoint_every=4"
FEW = "family.width=4 family.latent=8 metrics.extractor=pixels metrics.samples=100"
SMALLER = {
    "name=first budget.rounds=1000": f"name=first {SMALL} {FEW}",
    "first budget.rounds=2000": "first budget.rounds=12",
    "search.trials=16 budget.rounds=500": f"search.trials=2 search.confirm=0 {SMALL} {FEW}",
    "compute.ship=src budget.rounds=1000": f"compute.ship=src {SMALL} {FEW}",
}
"""The page's settings, and those of the test."""


def in_python(words: str) -> str:
    return ", ".join(f'"{word}"' for word in words.split())


SMALLER_PYTHON = {
    '"name=second", "budget.rounds=1000"': f'"name=second", {in_python(f"{SMALL} {FEW}")}',
    '"budget.rounds=2000"': '"budget.rounds=12"',
    '"search.trials=8", "budget.rounds=500"': f'"search.trials=2", "search.confirm=0", {in_python(f"{SMALL} {FEW}")}',
}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("own-gan")


@pytest.fixture(scope="module")
def programs(home) -> Path:
    """The programs of a new environment, which has what this one has and nothing of its own."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / "environment"], check=True)
    found = home / "environment" / "bin"
    places = sysconfig.get_paths(vars={"base": str(home / "environment"), "platbase": str(home / "environment")})
    theirs = f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n"
    (Path(places["purelib"]) / "ours.pth").write_text(theirs)
    for name, start in {
        "ganfleet": "from pipelines.cli import main; main()",
        "pip": "import runpy; runpy.run_module('pip', run_name='__main__')",
        "pytest": "import sys, pytest; sys.exit(pytest.main())",
    }.items():
        (found / name).write_text(f"#!{found}/python\n{start}\n")
        (found / name).chmod(0o755)
    return found


@pytest.fixture(scope="module")
def said(home, programs) -> dict[str, str]:
    """What each command wrote, by the command as it stands on the page."""
    asked = commands(PAGE)
    page = " ".join(asked)
    assert [there for there in SMALLER if there not in page] == []
    (python,) = [block.text for block in blocks(PAGE) if block.title == "play.py"]
    for there, here in SMALLER_PYTHON.items():
        assert there in python, there
        python = python.replace(there, here)
    (home / "play.py").write_text(python)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_", "MLFLOW_", "PIP_"))
    }
    environment |= {
        "GANFLEET_CACHE": str(home / "cache"),
        "PYTHONPATH": str(ROOT),
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    return walked(PAGE, home, {**SMALLER, "python play.py": "python ../play.py"}, environment, programs=programs)


def test_the_page_shows_the_package_that_is_written(tmp_path, monkeypatch):
    from pipelines.cli.commands.new import new

    monkeypatch.chdir(tmp_path)
    new("my_gan")
    for block in blocks(PAGE):
        if block.title and block.title != "play.py":
            assert block.text in (tmp_path / "my_gan" / block.title).read_text(), block.title
    assert len((tmp_path / "my_gan" / "src" / "my_gan" / "gans.py").read_text().splitlines()) <= 40


def test_a_package_of_ones_own_plays_by_commands_and_in_python_on_one_worker_and_two(own_cluster, home, said):
    folder = home / "my_gan"
    assert "2 passed" in said["pytest"]
    assert (folder / "dist" / "my_gan-0.1.0-py3-none-any.whl").is_file()
    runs = folder / "runs"
    for name, last, workers in (("first", 12, 2), ("second", 12, 2), ("shipped", 8, 1)):
        rows = [json.loads(line) for line in (runs / name / "metrics.jsonl").read_text().splitlines()]
        assert rows[-1]["step"] == last
        assert f"workers: {workers}" in (runs / name / "experiment.yaml").read_text()
    for name in ("hunt", "again"):
        assert (runs / name / "best.json").is_file()
        assert (runs / name / "learned" / "progress.png").is_file()
    assert Image.open(folder / "first.png").width > 16
    printed = next(text for command, text in said.items() if command.startswith("ganfleet evaluate"))
    assert printed.startswith("fid ")
    for file in ("hunt.safetensors", "first.onnx", "second.pt2"):
        assert (folder / file).stat().st_size > 1000
    assert "'family.name': 'my_gan.gans:MyGan'" in said["python play.py"]
    about = json.loads((runs / "shipped" / "checkpoints" / "step-000008" / "checkpoint.json").read_text())
    assert about["experiment"]["family"]["name"] == "my_gan.gans:MyGan"
    assert len(about["source"]) == 64
