"""The tiers and groups that `conftest.py` gives to tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = """
import os
from pathlib import Path
import pytest

def note(name):
    with Path("ran").open("a") as file:
        file.write(f"{name} {os.environ['PYTEST_XDIST_WORKER']}\\n")

@pytest.mark.parametrize("one", range(6))
def test_of_own_clusters(own_cluster, one):
    note("clusters")

@pytest.mark.parametrize("one", range(6))
def test_plain(one):
    note("plain")

def test_of_moto(moto_server):
    note("moto")

@pytest.fixture(params=["local", "swift"])
def store(request):
    return request.param

def test_of_a_store(store):
    note(store)

@pytest.mark.full
def test_slow():
    note("slow")
"""


@pytest.fixture
def run(tmp_path) -> Callable[[str], list[list[str]]]:
    """Runs the tests of a tier by two processes. Returns the name and the process of each test."""
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS)
    ini = "[pytest]\naddopts = --dist=loadgroup\nmarkers =\n  quick\n  full\n  system\n"
    (tmp_path / "pytest.ini").write_text(ini)
    environment = {**os.environ, "GANFLEET_REQUIRE_ALL": "", "PYTHONPATH": str(ROOT)}
    environment.pop("PYTEST_XDIST_WORKER", None)

    def run(tier: str) -> list[list[str]]:
        (tmp_path / "ran").unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-n", "2", "-m", tier, "-p", "no:cacheprovider"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        return [line.split() for line in (tmp_path / "ran").read_text().splitlines()]

    return run


@pytest.mark.full
def test_a_test_has_the_tier_of_its_fixtures(run):
    assert sorted(name for name, _ in run("quick")) == ["local", *["plain"] * 6]
    full = run("full")
    assert sorted(name for name, _ in full) == [*["clusters"] * 6, "moto", "slow"]
    assert len({process for name, process in full if name == "clusters"}) == 1, "one process starts clusters"
    assert [name for name, _ in run("system")] == ["swift"]
