"""Real servers that speak S3, on free ports of loopback: moto's, which has most of S3 but checks no signature, and
OpenStack Swift, an object store that does. And a cable between a client and a server, to be cut."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECONDS = 30
"""A server starts within."""


@dataclass(frozen=True)
class Server:
    """Where it listens, and who may ask."""

    url: str
    key: str
    secret: str

    def be_asked(self, patch: pytest.MonkeyPatch) -> None:
        """Sets the environment of whoever asks; nothing of the user's own is left."""
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        ours = {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            # Of the tests' own clients: on a machine that is busy Swift may ask for patience (503).
            "AWS_RETRY_MODE": "standard",
            "AWS_MAX_ATTEMPTS": "10",
        }
        for name, value in ours.items():
            patch.setenv(name, value)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextmanager
def running(commands: list[list[str]], asked: str, log: Path, seconds: float = SECONDS) -> Iterator[None]:
    """Processes of which one answers at a URL within seconds; they are ended in the end, with what they have
    started."""
    started = []
    try:
        with log.open("ab") as output:
            for command in commands:
                started.append(
                    subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
                    )
                )
        _wait(asked, started, log, seconds)
        yield
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(asked: str, started: list[subprocess.Popen], log: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and all(process.poll() is None for process in started):
        try:
            urllib.request.urlopen(asked, timeout=SECONDS).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"no answer from {asked}: {log.read_text()[-2000:]}")


@contextmanager
def moto(folder: Path) -> Iterator[Server]:
    """moto's server, all in its memory."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running([command], f"{url}/moto-api/", folder / "moto.log"):
        yield Server(url, "anybody", "anything")


def swift_commands() -> Path | None:
    """Where Swift is installed: $GANFLEET_SWIFT_VENV, or .venv-swift in the project's folder."""
    folder = Path(os.environ.get("GANFLEET_SWIFT_VENV") or ROOT / ".venv-swift") / "bin"
    return folder if (folder / "swift-proxy-server").is_file() else None


@contextmanager
def swift(folder: Path, commands: Path) -> Iterator[Server]:
    """OpenStack Swift with its S3 API: a proxy, and one server each of accounts, containers and objects."""
    ports = dict(zip(("proxy", "account", "container", "object"), free_ports(4), strict=True))
    for name in ("etc", "srv/d1"):
        (folder / name).mkdir(parents=True)
    (folder / "etc" / "swift.conf").write_text(_SWIFT)
    for name, port in ports.items():
        text = _PROXY if name == "proxy" else _STORAGE.format(name=name, devices=folder / "srv")
        (folder / "etc" / f"{name}-server.conf").write_text(_COMMON.format(port=port, etc=folder / "etc") + text)
        if name != "proxy":
            _ring(commands / "swift-ring-builder", folder / "etc", name, port)
    servers = [[str(commands / f"swift-{name}-server"), str(folder / "etc" / f"{name}-server.conf")] for name in ports]
    url = f"http://127.0.0.1:{ports['proxy']}"
    with running(servers, f"{url}/healthcheck", folder / "swift.log"):
        yield Server(url, "test:tester", "testing")


def _ring(builder: Path, etc: Path, name: str, port: int) -> None:
    for words in (["create", "2", "1", "0"], ["add", f"r1z1-127.0.0.1:{port}/d1", "1"], ["rebalance"]):
        subprocess.run([builder, f"{name}.builder", *words], cwd=etc, check=True, capture_output=True)


_SWIFT = """
[swift-hash]
swift_hash_path_prefix = tests
swift_hash_path_suffix = tests
[storage-policy:0]
name = default
default = yes
"""
_COMMON = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {etc}
log_level = WARNING
log_address = /nonexistent
log_udp_host =
"""
_STORAGE = """
devices = {devices}
mount_check = false
fallocate_reserve = 0
disable_fallocate = true
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
servers_per_port = 0
"""
_FILTERS = ("catch_errors", "gatekeeper", "healthcheck", "listing_formats", "bulk", "s3api", "tempauth", "slo", "dlo")
_PROXY = f"""
[pipeline:main]
pipeline = {" ".join(_FILTERS)} versioned_writes symlink copy proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
""" + "".join(
    f"[filter:{name}]\nuse = egg:swift#{name}\n{more}"
    for name, more in {
        **dict.fromkeys((*_FILTERS, "symlink", "copy"), ""),
        "s3api": "location = us-east-1\ns3_acl = false\n",
        "tempauth": "user_test_tester = testing .admin\n",
        "versioned_writes": "allow_object_versioning = true\n",
    }.items()
)


class Cable:
    """Carries bytes between clients and a server; is cut once each of `cuts` bytes have come from the server, for
    good if it is not mended."""

    def __init__(self, server: str, cuts: tuple[int, ...] = (), mended: bool = True) -> None:
        host, _, port = server.removeprefix("http://").partition(":")
        self._server, self._cuts, self._mended = (host, int(port)), list(cuts), mended
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.carried = 0
        """Bytes that came from the server."""
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def cut_next(self) -> None:
        """The next answer is lost."""
        self._cuts.append(self.carried)

    def mend(self) -> None:
        """No further answer is lost."""
        self._cuts.clear()

    def close(self) -> None:
        # Who waits for a call is not woken by closing alone, and may take those of the listener that is opened next.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(self._server) as server:
            while True:
                for one in select.select([client, server], [], [])[0]:
                    content = one.recv(65536)
                    if not content or (one is server and self._cut(len(content))):
                        return
                    (client if one is server else server).sendall(content)

    def _cut(self, more: int) -> bool:
        with self._lock:
            if self._cuts and self.carried + more > self._cuts[0]:
                if self._mended:
                    self._cuts.pop(0)
                return True
            self.carried += more
            return False
