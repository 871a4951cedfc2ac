"""Which way the arrows run: read from the imports, wherever in a file they stand."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"gan_core", "tune_spaces", "infra", "pipelines"}
ALLOWED = {
    "gan_core": set(),
    "tune_spaces": {"gan_core"},
    "infra": set(),
    "pipelines": {"gan_core", "tune_spaces", "infra"},
}
OUTSIDE = {"ray", "mlflow", "boto3", "botocore", "optuna"}


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


def imports(source: str, package: str) -> set[str]:
    """The top-level packages that a file imports, by statement or by `importlib.import_module("name")`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(package if node.level else (node.module or "").partition(".")[0])
        elif isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__"):
            found.add(_text(node.args[0]).partition(".")[0])
    return found


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _text(node: ast.expr) -> str:
    """The literal beginning of a string: of an f-string too."""
    if isinstance(node, ast.JoinedStr):
        node = node.values[0]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def prints(source: str) -> list[int]:
    """The lines of a file that call `print`."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


def test_imports_are_found_wherever_they_stand():
    source = """
import os, ray.train as train
from infra.store import Store
from . import loop
if TYPE_CHECKING:
    from mlflow import MlflowClient
def play():
    import boto3
    importlib.import_module(f"pipelines.{name}"); import_module("tune_spaces.domains"); __import__("optuna")
"""
    assert imports(source, "gan_core") == {
        *("os", "ray", "infra", "gan_core", "mlflow", "boto3", "pipelines", "tune_spaces", "optuna")
    }
    assert prints("x = 1\nprint(x)\nlog.print(x)\n'print(x)'") == [2]


@pytest.mark.parametrize("package", sorted(OURS))
def test_no_arrow_runs_back(package):
    for file in files(package):
        found = imports(file.read_text(), package) & OURS
        assert found <= ALLOWED[package] | {package}, file.relative_to(ROOT)


def test_nothing_outside_is_known_to_gan_core():
    for file in files("gan_core"):
        assert not imports(file.read_text(), "gan_core") & OUTSIDE, file.relative_to(ROOT)


def test_gan_core_prints_nothing():
    assert {str(file): lines for file in files("gan_core") if (lines := prints(file.read_text()))} == {}


@pytest.mark.parametrize("package", sorted(OURS))
def test_a_file_is_one_idea(package):
    """About 250 lines; 300 at most."""
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in files(package)}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_gan_core_trains_where_the_rest_is_not_installed():
    program = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OUTSIDE!r}:
            raise ImportError(name + " is absent")

sys.meta_path.insert(0, Absent())
try:
    import ray
except ImportError:
    print("no ray")

from itertools import islice
from gan_core import data
from gan_core.experiment import Experiment
from gan_core.measures import Metrics
from gan_core.family import family_names
from gan_core.loop import Game, rounds
from gan_core.metrics.statistics.reference import Reference
from gan_core.metrics.scores import scores

for name in family_names():
    experiment = Experiment.load({{"family": name}}).override("family.width=4", "data.batch_size=4")
    real = data.load(experiment.data)
    game = Game(experiment, real.shape, classes=real.classes)
    played = [one.scalars() for one in islice(rounds(game, real.images, real.labels), 2)]
    print(name, len(played), scores(game, Reference.build(Metrics(extractor="pixels"), real))["fid"] > 0)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "no ray"
    assert len(lines) > 4
    assert all(line.endswith(" 2 True") for line in lines[1:])


SKIPPING = {
    "fixture": "def test_it(require):\n    require(False, 'no such thing here')",
    "mark": "import pytest\n@pytest.mark.skip(reason='no such thing here')\ndef test_it():\n    pass",
    "module": "import pytest\npytest.skip('no such thing here', allow_module_level=True)",
}


@pytest.mark.parametrize("require_all", [False, True])
def test_a_skip_is_a_failure_where_nothing_may_be_skipped(tmp_path, require_all):
    """The hook of `conftest.py`, on tests that skip in each way."""
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    for name, source in SKIPPING.items():
        (tmp_path / f"test_{name}.py").write_text(source)
    expected = "import pytest\n@pytest.mark.xfail\ndef test_it():\n    assert False"
    (tmp_path / "test_expected.py").write_text(expected)
    (tmp_path / "test_excused.py").write_text("import pytest\ndef test_it():\n    pytest.skip('excused: nowhere')")
    (tmp_path / "test_there.py").write_text("def test_it(require):\n    require(True, 'it is here')")
    environment = {**os.environ, "GANFLEET_REQUIRE_ALL": "1" if require_all else "", "PYTHONPATH": str(ROOT)}
    options = ["-rs", "-W", "ignore", "--continue-on-collection-errors", "--rootdir", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    reasons = done.stdout.count("no such thing here")
    assert reasons >= 3, done.stdout
    if require_all:
        assert done.returncode != 0
        summary = done.stdout.splitlines()[-1]
        assert "1 failed, 1 passed, 1 skipped, 1 xfailed, 2 errors" in summary, "what can be had nowhere is excused"
    else:
        assert done.returncode == 0, done.stdout
        assert "4 skipped" in done.stdout.splitlines()[-1]
