"""MLflow's server behind a proxy that misbehaves on demand."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.faults.processes import owner_of

CALLS = ("start", "log-batch", "image", "artifact", "end")
"""The calls of a run to MLflow at which its process can be killed."""
MODES = ("away", "500", "slow", "answer lost")
SLOW_SECONDS = 4.0
SECRET = "planted-secret-3f9c"
"""A password that nothing may write down."""


@dataclass
class Deadly:
    """The call at which whoever makes it is killed."""

    call: str
    number: int
    """Counted from one, among the calls of this kind."""
    taken: bool
    """Whether the server gets the call, and only the answer has no reader."""
    killed: int | None = None
    """Who was."""


class FaultyServer:
    """A proxy before MLflow's server. It forwards all calls, until `mode` or `deadly` says otherwise."""

    def __init__(self, server: str) -> None:
        self.mode: str | None = None
        self.deadly: Deadly | None = None
        self.calls: Counter[str] = Counter()
        """Calls since the last reset, by kind."""
        self._lock = threading.Lock()
        proxy, address = self, server.removeprefix("http://")

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                forward, reply = proxy._before(self, kind_of(self.command, self.path, body))
                if forward:
                    connection = http.client.HTTPConnection(address, timeout=60)
                    headers = {
                        name: value for name, value in self.headers.items() if name not in ("Host", "Connection")
                    }
                    connection.request(self.command, self.path, body, headers)
                    answered = connection.getresponse()
                    status, content = answered.status, answered.read()
                    content_type = answered.headers.get("Content-Type", "application/json")
                    connection.close()
                else:
                    status, content, content_type = 500, b'{"error_code": "INTERNAL_ERROR"}', "application/json"
                if not reply:
                    self.close_connection = True
                    return
                with suppress(OSError):
                    self.send_response(status)
                    self.send_header("Content-Type", content_type)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Says nothing of clients that are killed while they call."""

        self._http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    @property
    def with_password(self) -> str:
        """The address with a name and SECRET, which the server does not ask for."""
        return self.url.replace("://", f"://tester:{SECRET}@")

    def reset(self) -> None:
        """Forwards all calls again, and counts from nought."""
        self.mode, self.deadly = None, None
        self.calls.clear()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _before(self, handler: BaseHTTPRequestHandler, kind: str | None) -> tuple[bool, bool]:
        """Whether the server gets the call, and whether the client gets the answer."""
        mode = self.mode
        if mode == "away":
            return False, False
        if mode == "500":
            return False, True
        if mode == "slow":
            time.sleep(SLOW_SECONDS)
        deadly = self.deadly
        if kind is not None:
            with self._lock:
                self.calls[kind] += 1
                hit = deadly is not None and kind == deadly.call and self.calls[kind] == deadly.number
            if hit and deadly is not None:
                deadly.killed = owner_of(handler.connection)
                if deadly.killed is not None:
                    os.kill(deadly.killed, signal.SIGKILL)
                return deadly.taken, False
        return True, mode != "answer lost"


def kind_of(method: str, path: str, body: bytes) -> str | None:
    """Which of CALLS a request is."""
    if "/mlflow-artifacts/" in path and method == "PUT":
        return "image" if "/images/" in path else "artifact"
    if path.endswith("/runs/create"):
        return "start"
    if path.endswith("/runs/log-batch") and json.loads(body).get("metrics"):
        return "log-batch"
    if path.endswith("/runs/update") and json.loads(body).get("status") != "RUNNING":
        return "end"
    return None
