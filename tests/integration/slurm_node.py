"""A Slurm of one node: real daemons in a network of its own that has loopback only. Needs root and slurm-wlm."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.integration import machine

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "unshare", "nsenter", "ip")

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
KillWait=60
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""

HOLD = "hostname localhost && ip link set lo up && ip addr add 10.77.0.1/32 dev lo && echo up && exec sleep infinity"
"""With 127.0.0.1 alone getaddrinfo(AI_ADDRCONFIG), which Slurm asks, resolves nothing at all."""


def missing() -> str:
    """Why it cannot be started here; nothing if it can."""
    return machine.missing(PROGRAMS, "slurm-wlm, munge, util-linux, iproute2", "a one-node Slurm needs")


@dataclass(frozen=True)
class SlurmNode:
    """A node that runs."""

    network: int
    """The process that holds its network."""
    folder: Path

    def run(self, *command: str, cwd: Path | None = None, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Runs a program inside."""
        return subprocess.run(
            self.inside(command),
            cwd=cwd,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def inside(self, command: tuple[str, ...]) -> list[str]:
        """The command, in the node's network and under its name."""
        return ["nsenter", "--target", str(self.network), "--net", "--uts", *command]

    def environment(self) -> dict[str, str]:
        """With which Slurm's programs find it."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "RAY", "SBATCH"))}
        return {**kept, "SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": machine.path(), "COLUMNS": "200"}

    def job(self, number: str) -> dict[str, str]:
        """What scontrol knows of a job."""
        words = self.run("scontrol", "show", "job", "--oneliner", number).stdout.split()
        return dict(word.split("=", 1) for word in words if "=" in word)


@contextmanager
def slurm_node(folder: Path) -> Iterator[SlurmNode]:
    """Starts the daemons, and ends them by their own processes."""
    folder.chmod(0o755)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    # A name that resolves without a network, whatever this machine is called.
    (folder / "slurm.conf").write_text(CONF.format(folder=folder, host="localhost", cpus=os.cpu_count()))
    holder = subprocess.Popen(
        ["unshare", "--net", "--uts", "bash", "-c", HOLD],
        stdout=subprocess.PIPE,
        env={**os.environ, "PATH": machine.path()},
    )
    node, daemons = SlurmNode(holder.pid, folder), [holder]
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        munged = [
            "munged",
            "--force",
            "--foreground",
            f"--key-file={folder}/munge.key",
            f"--socket={folder}/munge.sock",
        ]
        aside = [
            f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log",
            f"--seed-file={folder}/munge.seed",
        ]
        for command in ([*munged, *aside], ["slurmctld", "-D"], ["slurmd", "-D"]):
            with (folder / f"{command[0]}.out").open("w") as out:
                inside = node.inside(tuple(command))
                daemons.append(subprocess.Popen(inside, env=node.environment(), stdout=out, stderr=out))
            time.sleep(0.3)
        _wait_idle(node, daemons)
        yield node
        _cancel_all(node)
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in reversed(daemons):
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _wait_idle(node: SlurmNode, daemons: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + 30
    while all(daemon.poll() is None for daemon in daemons) and time.monotonic() < deadline:
        with suppress(subprocess.TimeoutExpired):
            if "idle" in node.run("sinfo", "--noheader", "--format=%T", seconds=5).stdout:
                return
        time.sleep(0.2)
    logs = [f"{file}:\n{file.read_text()[-1500:]}" for file in sorted(node.folder.glob("*.out"))]
    raise AssertionError("no idle node:\n" + "\n".join(logs))


def _cancel_all(node: SlurmNode) -> None:
    deadline = time.monotonic() + 60
    while (jobs := node.run("squeue", "--noheader", "--format=%i").stdout.split()) and time.monotonic() < deadline:
        node.run("scancel", *jobs)
        time.sleep(0.5)
