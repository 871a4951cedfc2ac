"""A run over two hosts, one of which is lost: the run goes on with fewer workers if it may, else it waits for the host,
and has the bits of a run that nobody disturbed."""

import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.runs import RunFolder
from tests.integration.two_hosts import TwoHosts, await_text, missing, two_hosts
from tests.pipelines.tiny import SMALL, command, digest, rows, timeless

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROUNDS, EVERY = 240, 20
ADDRESS = "10.99.0.1:6379"
GAME = (
    *(
        "train",
        "wgan_gp",
        *SMALL,
        "data.batch_size=64",
        "compute.precision=fp64",
        "compute.workers=2",
        "compute.cpus=1",
    ),
    *(f"budget.rounds={ROUNDS}", f"budget.log_every={EVERY}", f"budget.eval_every={ROUNDS}"),
    *(f"budget.checkpoint_every={EVERY}", "compute.cpus=1"),
)
HEALTH = {f"RAY_health_check_{name}": value for name, value in {"period_ms": "1000", "timeout_ms": "1000"}.items()}
"""A host that says nothing is given up after seconds; Ray's own patience is a minute."""


@dataclass(frozen=True)
class Site:
    """Two hosts that are a Ray cluster, and the folder where its user works."""

    hosts: TwoHosts
    place: Path

    def worker_host(self) -> None:
        """Powers the second host on, up to where it is part of the cluster."""
        log = self.hosts.boot(2, "ray", "start", "--block", f"--address={ADDRESS}", *SIZE)
        await_text(log, "Ray runtime started")

    def begun(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        """A run from the first host, once it has its first checkpoint."""
        driver = self.hosts.start(1, *command(*GAME, f"name={name}", *words), cwd=self.place, log=self.said(name))
        deadline = time.monotonic() + 180
        while not self.run(name).checkpoints() and driver.poll() is None:
            assert time.monotonic() < deadline, self.said(name).read_text()
            time.sleep(0.1)
        return driver

    def ended(self, name: str, driver: subprocess.Popen[bytes]) -> RunFolder:
        """The run, which must come to its end within minutes."""
        code = driver.wait(300)
        log = self.run(name).log.read_text()
        assert code == 0, self.said(name).read_text() + log[-3000:]
        return self.run(name)

    def run(self, name: str) -> RunFolder:
        return RunFolder(self.place / "runs" / name)

    def said(self, name: str) -> Path:
        return self.place / f"{name}.out"


SIZE = ("--num-cpus=1", "--object-store-memory=200000000", "--dashboard-agent-listen-port=0")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    patience = {**HEALTH, "RAY_health_check_initial_delay_ms": "1000", "RAY_health_check_failure_threshold": "3"}
    folder = tmp_path_factory.mktemp("hosts")
    with two_hosts(folder, RAY_ADDRESS=ADDRESS, **token, **patience) as hosts:
        head = ("--head", "--block", "--node-ip-address=10.99.0.1", "--port=6379", "--dashboard-port=0", *SIZE)
        await_text(hosts.boot(1, "env", "-u", "RAY_ADDRESS", "ray", "start", *head), "Ray runtime started")
        site = Site(hosts, tmp_path_factory.mktemp("place"))
        site.worker_host()
        yield site


@pytest.fixture(scope="module")
def calm(site) -> RunFolder:
    """A run that nobody disturbs."""
    return site.ended("calm", site.begun("calm"))


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ({"RAY_AUTH_TOKEN": "0" * 64}, "refuses the token"),
        ({"RAY_AUTH_MODE": "disabled"}, "wants a token, RAY_AUTH_MODE is disabled"),
    ],
)
def test_the_cluster_refuses_who_has_no_token_for_it(site, token, told):
    refused = site.hosts.run(1, *command(*GAME, "name=refused"), cwd=site.place, **token)
    assert refused.returncode == 2
    line = refused.stderr.splitlines()[-1]
    assert line.startswith(f"error: RAY_ADDRESS={ADDRESS}: the Ray cluster {told}; nearest: ")
    assert not site.run("refused").path.exists()


def test_a_run_that_may_goes_on_without_the_lost_host(site, calm):
    """The cable is cut, then the host is off: the rest of the game is played on one worker, as far as numbers tell."""
    driver = site.begun("fewer", "compute.min_workers=1")
    site.hosts.cut(2)
    time.sleep(5)
    site.hosts.power_off(2)
    try:
        folder = site.ended("fewer", driver)
    finally:
        site.hosts.mend(2)
        site.worker_host()
    expected, found = rows(calm.path), rows(folder.path)
    assert [row["step"] for row in found] == list(range(EVERY, ROUNDS + 1, EVERY))
    for row, other in zip(map(timeless, found), map(timeless, expected), strict=True):
        assert row == pytest.approx(other, rel=1e-6), row["step"]


def test_a_run_of_fixed_size_waits_for_the_host_and_has_the_same_bits(site, calm):
    driver = site.begun("fixed")
    site.hosts.power_off(2)
    time.sleep(5)
    assert driver.poll() is None
    site.worker_host()
    folder = site.ended("fixed", driver)
    assert [digest(path) for path in folder.checkpoints()] == [digest(path) for path in calm.checkpoints()]
    assert list(map(timeless, rows(folder.path))) == list(map(timeless, rows(calm.path)))
