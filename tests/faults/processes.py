"""The processes of a run: the driver, those of Ray below it, and what each of them is."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

ROLES: dict[str, Callable[[str], bool]] = {
    "worker": lambda name: name.startswith(
        ("ray::RayTrainWorker", "ray::_RayTrainWorker", "ray::Trial", "ray::Resource")
    ),
    "controller": lambda name: name.startswith("ray::TrainController"),
    "queue": lambda name: name.startswith("ray::_QueueActor"),
    "raylet": lambda name: name.partition(" ")[0].endswith("/raylet/raylet"),
    "gcs": lambda name: name.partition(" ")[0].endswith("/gcs_server"),
}
"""What a process below the driver is, by its command line."""


def descendants(pid: int) -> set[int]:
    """The processes below one, by /proc."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, fresh = set(), {pid}
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return found


def called(pid: int) -> str:
    """The command line of a process; empty if the process has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def of_role(driver: int, role: str) -> list[int]:
    """The processes below a driver with a role, lowest pid first."""
    return sorted(pid for pid in descendants(driver) if ROLES[role](called(pid)))


def kill(pids: list[int] | set[int], number: signal.Signals = signal.SIGKILL) -> int:
    """Sends a signal to those that still run. Returns how many got it."""
    sent = 0
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            sent += 1
    return sent


def gone(pids: set[int], seconds: float = 30.0) -> float:
    """Waits until none of the processes plays a trial any more. Returns how long that took. Raises if they stay.

    Others of Ray's (its agents, the dashboard) look for their parent now and then, and are not waited for.
    """
    began = time.monotonic()
    while alive := [name for name in map(called, pids) if name.startswith("ray::") and "Agent" not in name]:
        if time.monotonic() - began > seconds:
            raise AssertionError(f"outlive their driver: {', '.join(name[:60] for name in alive)}")
        time.sleep(0.02)
    return time.monotonic() - began


def owner_of(connection: socket.socket) -> int | None:
    """The process on this machine at the other end of a TCP connection."""
    other = connection.getpeername()
    for found in psutil.net_connections("tcp"):
        if found.laddr and (found.laddr.ip, found.laddr.port) == other[:2]:
            return found.pid
    return None
