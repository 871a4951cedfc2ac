"""Two hosts on one machine: each has its network, processes, name, /tmp/ray and /dev/shm; cables that can be cut, power
that can be switched. What is written to disk, both see. Needs root, iproute2 and util-linux."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration import machine

PROGRAMS = ("unshare", "nsenter", "ip", "mount")

BOOT = """
hostname "host$1" && mkdir -p /tmp/ray && mount --bind "$0/ray" /tmp/ray && mount -t tmpfs -o size=2g tmpfs /dev/shm &&
mount --bind "$0/../hosts" /etc/hosts && shift && echo booted && "$@" &
while :; do wait; sleep 0.2; done
"""
"""Of the host's first process: whatever becomes of its programs, the host stays up."""


def missing() -> str:
    """Why they cannot be had here; nothing if they can."""
    return machine.missing(PROGRAMS, "util-linux, iproute2", "two hosts on one machine need")


@dataclass
class TwoHosts:
    """10.99.0.1 and 10.99.0.2, numbered 1 and 2."""

    folder: Path
    environment: dict[str, str]
    """Of all that runs on them."""
    switch: int
    """The process that holds the network between them; each host's network has one too."""
    networks: dict[int, int]
    powered: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def boot(self, host: int, *program: str) -> Path:
        """Powers a host on with a program that it starts by itself. Returns what the program writes."""
        own = self.folder / str(host)
        (own / "ray").mkdir(parents=True, exist_ok=True)
        log = own / f"boot-{time.time_ns()}.log"
        apart = ["unshare", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"]
        with log.open("wb") as out:
            self.powered[host] = subprocess.Popen(
                [*_net(self.networks[host]), *apart, "bash", "-c", BOOT, str(own), str(host), *program],
                env=self.environment,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )
        await_text(log, "booted")
        return log

    def start(self, host: int, *program: str, cwd: Path, log: Path) -> subprocess.Popen[bytes]:
        """A program on a host that is on."""
        with log.open("wb") as out:
            return subprocess.Popen(self._on(host, cwd, program), env=self.environment, stdout=out, stderr=out)

    def run(self, host: int, *program: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """A program on a host that is on, to its end."""
        return subprocess.run(
            self._on(host, cwd, program),
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    def power_off(self, host: int) -> None:
        """All of its processes at once."""
        outer = self.powered.pop(host)
        os.kill(self._first(outer), signal.SIGKILL)
        outer.wait(30)

    def cut(self, host: int) -> None:
        """Its cable."""
        _ip(self.switch, "link", "set", f"port{host}", "down")

    def mend(self, host: int) -> None:
        """Its cable."""
        _ip(self.switch, "link", "set", f"port{host}", "up")

    def _on(self, host: int, cwd: Path, program: tuple[str, ...]) -> list[str]:
        inside = ["nsenter", "--target", str(self._first(self.powered[host])), "--net", "--uts", "--mount", "--pid"]
        return [*inside, "bash", "-c", 'cd "$0" && exec "$@"', str(cwd), *program]

    @staticmethod
    def _first(outer: subprocess.Popen[bytes]) -> int:
        return int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()[0])


@contextmanager
def two_hosts(folder: Path, **environment: str) -> Iterator[TwoHosts]:
    """Their networks and the cables between them; none is on yet. Afterwards both are off."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY", "GLOO"))}
    programs = f"{Path(sys.executable).parent}:{machine.path()}"
    (folder / "hosts").write_text("127.0.0.1 localhost\n10.99.0.1 host1\n10.99.0.2 host2\n")
    with ExitStack() as held:
        switch, *networks = (held.enter_context(_network()) for _ in range(3))
        hosts = TwoHosts(
            folder,
            {**kept, "PATH": programs, "GLOO_SOCKET_IFNAME": "eth0", "COLUMNS": "200", **environment},
            switch,
            dict(enumerate(networks, start=1)),
        )
        _ip(switch, "link", "add", "bridge", "type", "bridge")
        _ip(switch, "link", "set", "bridge", "up")
        for host, network in hosts.networks.items():
            port = f"port{host}"
            _ip(switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(network))
            _ip(switch, "link", "set", port, "master", "bridge", "up")
            _ip(network, "link", "set", "lo", "up")
            _ip(network, "addr", "add", f"10.99.0.{host}/24", "dev", "eth0")
            _ip(network, "link", "set", "eth0", "up")
        try:
            yield hosts
        finally:
            for host in list(hosts.powered):
                hosts.power_off(host)


@contextmanager
def _network() -> Iterator[int]:
    """A process that holds a network of its own."""
    holder = subprocess.Popen(
        ["unshare", "--net", "bash", "-c", "echo up; exec sleep infinity"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PATH": machine.path()},
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        yield holder.pid
    finally:
        holder.kill()
        holder.wait()


def _net(holder: int) -> list[str]:
    return ["nsenter", "--target", str(holder), "--net"]


def _ip(holder: int, *words: str) -> None:
    command = [*_net(holder), "ip", *words]
    subprocess.run(command, check=True, env={**os.environ, "PATH": machine.path()}, timeout=30)


def await_text(log: Path, text: str, seconds: float = 120) -> None:
    """Until a log says so."""
    deadline = time.monotonic() + seconds
    while text not in log.read_text(errors="replace"):
        assert time.monotonic() < deadline, (
            f"no '{text}' in {seconds} s, but: {log.read_text(errors='replace')[-3000:]}"
        )
        time.sleep(0.2)
