"""What all tests share: one thread a process, loopback between processes, and no silent skips in CI."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Before torch is imported, here and in every process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["GLOO_SOCKET_IFNAME"] = "lo"

# pytest puts `tests/` on the path, where `tests/gan_core` would shadow our package: ours come first.
sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest
import torch

from tests.servers import Server, moto, swift, swift_commands
from tests.tracking_servers import ABSENT, Tracking, postgres_commands, tracking_server

torch.set_num_threads(1)

REQUIRE_ALL = os.environ.get("GANFLEET_REQUIRE_ALL", "") not in ("", "0")


EXCUSED = "excused: "
"""The reason of a skip begins so where what is absent can be installed from nowhere: it is one in CI too."""


FULL = {"ray_cluster", "own_cluster", "ray_head", "moto_server"}
"""Fixtures whose tests `make test` leaves out: they start a cluster, or a server that needs no root."""
SYSTEM = {"swift_server", "tracking", "slurm_node", "two_hosts", "browser"}
"""Fixtures whose tests `make test-system` runs: they need root, or programs that pip does not install."""
OWN_CLUSTERS = {"own_cluster", "ray_head", "slurm_node", "two_hosts"}
"""Fixtures whose tests start Ray in processes of their own."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for groups, and pytest for tiers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sets each test's tier from its fixtures, so that none is forgotten. A test may name its tier itself.

    Tests that share the suite's cluster run in one process of pytest-xdist, and those that start their own in one.
    """
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ())) | _named_by_parameters(item)
        if "ray_cluster" in fixtures:
            item.add_marker(pytest.mark.xdist_group("cluster"))
        elif fixtures & OWN_CLUSTERS:
            item.add_marker(pytest.mark.xdist_group("own clusters"))
        if item.get_closest_marker("quick") or item.get_closest_marker("system"):
            continue
        if fixtures & SYSTEM:
            item.add_marker("system")
        elif not item.get_closest_marker("full"):
            item.add_marker("full" if fixtures & FULL else "quick")
    # The groups take longest, so they go first: no process is left alone with one in the end.
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


def _named_by_parameters(item: pytest.Item) -> set[str]:
    """Servers that a fixture starts by the name in its parameter: `moto`, or `moto_server`."""
    parameters = (
        item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
    )
    named = {value.removesuffix("_server") for value in parameters if isinstance(value, str)}
    return {f"{value}_server" for value in named}


@pytest.fixture(scope="session")
def own_cluster() -> None:
    """Asked for by a test whose commands start a Ray cluster in a process of their own."""


@pytest.fixture
def require() -> Callable[[object, str], None]:
    """`require(there, reason)` skips the test if what it needs is absent; GANFLEET_REQUIRE_ALL=1 fails it."""

    def check(there: object, reason: str) -> None:
        if not there:
            pytest.skip(reason)

    return check


def _refused(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turns a skip, whoever asked for it, into a failure that says why. An expected failure stays one."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    excused = hasattr(report, "wasxfail") or reason.startswith(("Skipped: " + EXCUSED, EXCUSED))
    if REQUIRE_ALL and report.skipped and not excused:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: {reason} (GANFLEET_REQUIRE_ALL is set: nothing may be skipped)"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    _refused(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    _refused(report)
    return report


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[object]:
    """One local Ray cluster for the whole suite, from the first test that asks; `cluster()` joins it."""
    from infra.cluster import cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with cluster() as started:
            yield started


@pytest.fixture(autouse=True)
def _no_cluster_of_others(request, monkeypatch) -> None:
    """The suite's cluster may be joined by this process already; only tests that ask for it know."""
    if "ray_cluster" not in request.fixturenames:
        monkeypatch.setattr("infra.cluster.joined", lambda: False)


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory) -> Iterator[Server]:
    """An S3 that checks no signature."""
    with moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def swift_server(tmp_path_factory) -> Iterator[Server]:
    """An S3 that does, and really stores."""
    commands = swift_commands()
    if commands is None:
        pytest.skip("OpenStack Swift is not installed: python -m venv .venv-swift; .venv-swift/bin/pip install swift")
    with swift(tmp_path_factory.mktemp("swift"), commands) as server:
        yield server


@pytest.fixture(scope="session")
def tracking(moto_server) -> Iterator[Tracking]:
    """MLflow's server on PostgreSQL, with its artifacts in S3."""
    programs = postgres_commands()
    if programs is None:
        pytest.skip(ABSENT)
    with tracking_server(moto_server, programs) as server:
        yield server
