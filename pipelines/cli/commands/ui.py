"""The command `ui`: MLflow's server on the store where runs are tracked, for as long as the command runs."""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer

from gan_core.files import cache_folder
from gan_core.settings import SettingsError
from pipelines.settings import CommonSettings, check_tracking, restricted_settings
from pipelines.tracking.pages import EXPERIMENT, links

LOOPBACK = "127.0.0.1"
POLL_SECONDS, LINE_SECONDS, END_SECONDS = 0.2, 3.0, 10.0
"""Between two looks at the server; between two lines while it starts; for its processes to end by themselves."""


def register(app: typer.Typer) -> None:
    """Adds the command to the others."""
    app.command()(ui)


def ui(
    assignments: Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]", show_default=False)] = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0: at all of this machine's.")] = LOOPBACK,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False,
) -> None:
    """Open MLflow on the store where runs are tracked."""
    settings = restricted_settings(CommonSettings, assignments, "storage", "tracking")
    if settings.tracking.server:
        typer.echo(f"MLflow's pages are at {settings.curves}")
        return
    database = settings.storage.folder / "mlflow.db"
    check_tracking(settings)
    if settings.tracking.uri is None and not database.is_file():
        raise SettingsError(f"storage.path={settings.storage.path} has no runs yet", nearest="ganfleet train wgan_gp")
    cache_folder()  # MLflow does not start where there is no home folder
    address = _free_address(host, port)
    if not ipaddress.ip_address(address).is_loopback:
        typer.echo(
            f"warning: --host={host}: MLflow asks for no password; who reaches port {port} of this machine can read and"
            " delete what was tracked",
            err=True,
        )
    page = f"http://{_shown(address)}:{port}"
    with suppress(KeyboardInterrupt), _server(settings.tracking_uri, host, port) as server:
        _wait_until_it_answers(server, page)
        typer.echo(f"MLflow on {page} (Ctrl-C ends it)")
        found = _links(page)
        for name, link in found.items():
            typer.echo(f"{name}: {link}")
        sys.stdout.flush()
        if not no_browser and _has_screen():
            webbrowser.open(next(iter(found.values()), page))
        if server.wait():
            raise OSError(f"MLflow's server ended with {server.returncode}")


def _free_address(host: str, port: int) -> str:
    """The IP address of `host`. Raises SettingsError if a server cannot listen there."""
    try:
        kind, _, _, _, (address, *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        _listen(kind, str(address), port)
        return str(address)
    except socket.gaierror as error:
        raise SettingsError(f"--host={host}: {error.strerror}", nearest=f"--host {LOOPBACK}") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            wrong, low = f"--port={port} is taken by another program", port + 1
        elif error.errno == errno.EACCES:
            wrong, low = f"--port={port} needs root", 5000
        else:
            wrong = f"--host={host} is no address of this machine"
            raise SettingsError(wrong, nearest=f"--host {LOOPBACK}, or 0.0.0.0 for all") from None
    raise SettingsError(wrong, nearest=f"--port {_free_port(kind, str(address), low)}")


def _free_port(kind: socket.AddressFamily, address: str, low: int) -> int:
    """The lowest port from `low` on where nobody listens; below it if there is none."""
    for port in (*range(low, 65536), *range(low - 1, 1023, -1)):
        with suppress(OSError):
            _listen(kind, address, port)
            return port
    return low


def _listen(kind: socket.AddressFamily, address: str, port: int) -> None:
    """Raises OSError if a server cannot listen there."""
    with socket.socket(kind, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a connection may still be closing
        trial.bind((address, port))
        trial.listen()


def _shown(address: str) -> str:
    """The address as part of a URL that a browser on this machine opens."""
    found = ipaddress.ip_address(address)
    if found.is_unspecified:
        return LOOPBACK if found.version == 4 else "[::1]"
    return f"[{found}]" if found.version == 6 else str(found)


@contextmanager
def _server(store: str, host: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's server. Its processes end with the block.

    With several workers, uvicorn kills each that does not answer within 5 s, and on a busy machine importing MLflow
    takes longer, again and again. One worker is not watched. MLflow's own jobs are of no use here, and they would
    import MLflow several times more.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ}
    # In a session of its own, so that Ctrl-C reaches this process alone, which then ends all others in order.
    server = subprocess.Popen([*command, "--backend-store-uri", store], env=environment, start_new_session=True)
    try:
        yield server
    finally:
        _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    """Ends the server with all processes that it started."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        started = psutil.Process(server.pid)
        tree = [*started.children(recursive=True), started]
        for process in tree:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in psutil.wait_procs(tree, END_SECONDS)[1]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    server.wait()


def _wait_until_it_answers(server: subprocess.Popen[bytes], page: str) -> None:
    """Raises OSError if the server ends before."""
    began = printed = time.monotonic()
    while server.poll() is None:
        with suppress(OSError), urllib.request.urlopen(f"{page}/health", timeout=LINE_SECONDS):
            return
        now = time.monotonic()
        if now - printed >= LINE_SECONDS:
            printed = now
            typer.echo(f"MLflow starts, {now - began:.0f} s", err=True)
        time.sleep(POLL_SECONDS)
    raise OSError(f"MLflow's server ended with {server.returncode} before it answered")


def _links(page: str) -> dict[str, str]:
    """The addresses of the runs on the server, by a name; empty if it has no experiment of ours."""
    query = urllib.parse.urlencode({"experiment_name": EXPERIMENT})
    address = f"{page}/api/2.0/mlflow/experiments/get-by-name?{query}"
    with suppress(OSError, ValueError), urllib.request.urlopen(address, timeout=LINE_SECONDS) as answer:
        found = json.load(answer)["experiment"]
        return links(page, found["experiment_id"], [tag["key"] for tag in found.get("tags", [])])
    return {}


def _has_screen() -> bool:
    """Whether a browser can open a window."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
