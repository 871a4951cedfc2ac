"""A run over two hosts, one of which is lost: the run goes on with fewer workers if it may, else it waits for the host,
and has the bits of a run that nobody disturbed. Each host has a cache of its own; what else is written they share, or
is in S3."""

import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.runs._folder import RunFolder
from tests.integration.two_hosts import TwoHosts, await_text, missing, two_hosts
from tests.pipelines.small_runs import OWN_GAN, SMALL, command, digest, rows, timeless

ROUNDS, EVERY = 240, 20
ADDRESS = "10.99.0.1:6379"
S3 = "http://10.99.0.1:5000"
FETCH = """
import sys
from pathlib import Path
import boto3

bucket = boto3.resource("s3", endpoint_url=sys.argv[1]).Bucket("results")
for one in bucket.objects.all():
    if one.key.endswith("/"):  # pyarrow's folders
        continue
    file = Path(sys.argv[2], one.key)
    file.parent.mkdir(parents=True, exist_ok=True)
    bucket.download_file(one.key, str(file))
"""
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
        own = f"GANFLEET_CACHE={self.place}/cache-2"
        log = self.hosts.boot(2, "env", own, "ray", "start", "--block", f"--address={ADDRESS}", *SIZE)
        await_text(log, "Ray runtime started")

    def begun(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        """A run from the first host, once it has its first checkpoint."""
        driver = self.hosts.start(1, *command(*GAME, f"name={name}", *words), cwd=self.place, log=self.said(name))
        deadline = time.monotonic() + 180
        while not any(self.place.glob(f"**/{name}/checkpoints/step-*")) and driver.poll() is None:
            assert time.monotonic() < deadline, self.said(name).read_text()
            time.sleep(0.1)
        return driver

    def ended(self, name: str, driver: subprocess.Popen[bytes]) -> RunFolder:
        """The run, which must come to its end within minutes."""
        code = driver.wait(300)
        logs = [log.read_text()[-3000:] for log in self.place.glob(f"**/{name}/r*.log")]
        assert code == 0, self.said(name).read_text() + "".join(logs)
        return self.run(name)

    def run(self, name: str) -> RunFolder:
        return RunFolder(self.place / "runs" / name)

    def said(self, name: str) -> Path:
        return self.place / f"{name}.out"


SIZE = ("--num-cpus=1", "--object-store-memory=200000000", "--dashboard-agent-listen-port=0")


@pytest.fixture(scope="module", name="two_hosts")
def started_two_hosts(tmp_path_factory) -> Iterator[Site]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    patience = {**HEALTH, "RAY_health_check_initial_delay_ms": "1000", "RAY_health_check_failure_threshold": "3"}
    folder, place = tmp_path_factory.mktemp("hosts"), tmp_path_factory.mktemp("place")
    own = {"GANFLEET_CACHE": str(place / "cache-1"), "RAY_ADDRESS": ADDRESS}
    keys = {"AWS_ACCESS_KEY_ID": "anybody", "AWS_SECRET_ACCESS_KEY": "anything"}
    with two_hosts(folder, **own, **keys, **token, **patience) as hosts:
        head = ("--head", "--block", "--node-ip-address=10.99.0.1", "--port=6379", "--dashboard-port=0", *SIZE)
        await_text(hosts.boot(1, "env", "-u", "RAY_ADDRESS", "ray", "start", *head), "Ray runtime started")
        site = Site(hosts, place)
        site.worker_host()
        yield site


@pytest.fixture(scope="module")
def calm(two_hosts) -> RunFolder:
    """A run that nobody disturbs."""
    return two_hosts.ended("calm", two_hosts.begun("calm"))


@pytest.fixture(scope="module")
def s3(two_hosts) -> None:
    """A store on the first host, and a bucket in it."""
    log = two_hosts.place / "moto.log"
    two_hosts.hosts.start(
        1, sys.executable, "-m", "moto.server", "-H", "10.99.0.1", "-p", "5000", cwd=two_hosts.place, log=log
    )
    await_text(log, "Running on")
    make = f"import boto3; boto3.client('s3', endpoint_url='{S3}').create_bucket(Bucket='results')"
    made = two_hosts.hosts.run(1, sys.executable, "-c", make, cwd=two_hosts.place)
    assert made.returncode == 0, made.stderr


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ({"RAY_AUTH_TOKEN": "0" * 64}, "refuses the token"),
        ({"RAY_AUTH_MODE": "disabled"}, "wants a token, RAY_AUTH_MODE is disabled"),
    ],
)
def test_the_cluster_refuses_who_has_no_token_for_it(two_hosts, token, told):
    refused = two_hosts.hosts.run(1, *command(*GAME, "name=refused"), cwd=two_hosts.place, **token)
    assert refused.returncode == 2
    line = refused.stderr.splitlines()[-1]
    assert line.startswith(f"error: RAY_ADDRESS={ADDRESS}: the Ray cluster {told}; nearest: ")
    assert not two_hosts.run("refused").path.exists()


def test_a_module_of_the_first_host_alone_plays_on_both(two_hosts):
    """The second host has an empty folder where the first one has the module."""
    mine = two_hosts.place / "mine"
    mine.mkdir()
    (mine / "own_gan.py").write_text(OWN_GAN)
    assert two_hosts.hosts.run(2, "mount", "-t", "tmpfs", "tmpfs", str(mine), cwd=two_hosts.place).returncode == 0
    assert two_hosts.hosts.run(2, "ls", str(mine), cwd=two_hosts.place).stdout == ""
    words = ("own_gan:Own" if word == "wgan_gp" else word for word in GAME)
    line = [*command(*words, "budget.rounds=40", "budget.eval_every=20"), f"storage.path={two_hosts.place}/runs"]

    unshipped = two_hosts.hosts.run(1, *line, "name=unshipped", cwd=mine)
    assert unshipped.returncode == 2
    assert unshipped.stderr.splitlines()[-1] == (
        f"error: the node 10.99.0.2 of the cluster has no module 'own_gan'; nearest: compute.ship={mine},"
        " or install it on every node"
    )
    assert not two_hosts.run("unshipped").path.exists()

    shipped = two_hosts.hosts.run(1, *line, "name=shipped", "compute.ship=own_gan.py", cwd=mine)
    assert shipped.returncode == 0, shipped.stderr
    folder = two_hosts.run("shipped")
    assert [row["step"] for row in rows(folder.path)] == [20, 40]
    assert "10.99.0.2" in folder.ray_log.read_text()
    sampled = two_hosts.hosts.run(2, *command("sample", folder.path, "--out", "there.png"), cwd=two_hosts.place)
    assert sampled.returncode == 0, sampled.stderr


def test_a_run_that_may_goes_on_without_the_lost_host(two_hosts, calm):
    """The cable is cut, then the host is off: the rest of the game is played on one worker, as far as numbers tell."""
    driver = two_hosts.begun("fewer", "compute.min_workers=1")
    two_hosts.hosts.cut(2)
    time.sleep(5)
    two_hosts.hosts.power_off(2)
    try:
        folder = two_hosts.ended("fewer", driver)
    finally:
        two_hosts.hosts.mend(2)
        two_hosts.worker_host()
    expected, found = rows(calm.path), rows(folder.path)
    assert [row["step"] for row in found] == list(range(EVERY, ROUNDS + 1, EVERY))
    for row, other in zip(map(timeless, found), map(timeless, expected), strict=True):
        assert row == pytest.approx(other, rel=1e-6), row["step"]


def test_a_run_of_fixed_size_waits_for_the_host_and_has_the_same_bits(two_hosts, calm, s3):
    """It is kept in S3, with nothing that the hosts share."""
    driver = two_hosts.begun(
        "fixed",
        "storage.path=s3://results/runs",
        f"storage.endpoint_url={S3}",
        f"tracking.uri=sqlite:///{two_hosts.place}/of-s3.db",
    )
    two_hosts.hosts.power_off(2)
    time.sleep(5)
    assert driver.poll() is None
    two_hosts.worker_host()
    two_hosts.ended("fixed", driver)
    fetched = two_hosts.hosts.run(
        1, sys.executable, "-c", FETCH, S3, str(two_hosts.place / "fetched"), cwd=two_hosts.place
    )
    assert fetched.returncode == 0, fetched.stderr
    folder = RunFolder(two_hosts.place / "fetched" / "runs" / "fixed")
    assert [digest(path) for path in folder.checkpoints()] == [digest(path) for path in calm.checkpoints()]
    assert list(map(timeless, rows(folder.path))) == list(map(timeless, rows(calm.path)))
