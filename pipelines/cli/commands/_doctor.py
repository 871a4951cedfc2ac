"""`ganfleet doctor`: checks what a run needs; each line of its report is `ok`, or says what to do."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from gan_core.files import cache_folder
from gan_core.settings import SettingsError
from infra.cluster import ClusterError, check_address, expected
from infra.health import CheckFailedError, check_server, check_store, cluster_nodes
from infra.mlflow.sqlite_uri import sqlite_file
from pipelines.settings import CommonSettings, as_settings_error, open_store

CACHE = "GANFLEET_CACHE=FOLDER, one of yours"
SECONDS = 20
"""Within which a program must tell its version."""


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    about: str
    ok: bool
    detail: str
    """What was found; if it is wrong, also what to do."""

    def __str__(self) -> str:
        return f"{'ok' if self.ok else 'WRONG':<6} {self.about:<10} {self.detail}"


def examine(settings: CommonSettings) -> Iterator[Finding]:
    """Makes the checks one after another, the slow ones last."""
    yield _found("python", _python)
    yield _found("packages", _packages)
    yield _found("torch", _torch)
    yield _found("cuda", _cuda)
    yield _found("cache", _cache)
    yield _program("sbatch", "--version", "submit --to slurm")
    yield _program("kubectl", "version --client", "submit --to kuberay")
    yield _found("storage", lambda: _storage(settings))
    yield _found("tracking", lambda: _tracking(settings))
    yield from _cluster()


def _found(about: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(about, True, check())
    except CheckFailedError as error:
        return Finding(about, False, str(error))


def _program(name: str, version: str, needed: str) -> Finding:
    """What there is of a program that one command starts. A machine without it is well, so nothing is wrong here."""
    path, why = shutil.which(name), "not here"
    if path is not None:
        try:
            done = subprocess.run([path, *version.split()], capture_output=True, text=True, timeout=SECONDS, check=True)
            return Finding(name, True, f"{' '.join(done.stdout.split()[:3])}, {path}")
        except subprocess.CalledProcessError as error:
            why = f"{path} does not work: {' '.join(error.stderr.split()[-12:]) or error}"
        except (OSError, subprocess.SubprocessError) as error:
            why = f"{path} does not work: {error}"
    return Finding(name, True, f"{why}; only {needed} --apply needs it")


def _python() -> str:
    if sys.maxsize < 2**32:
        raise CheckFailedError(f"Python {platform.python_version()} is a 32-bit one; torch needs 64 bits")
    return f"{platform.python_version()}, {sys.executable}"


def _packages() -> str:
    """Whether every package that ganfleet requires is installed, in a version that it accepts."""
    try:
        required = metadata.requires("ganfleet") or []
        ours = metadata.version("ganfleet")
    except metadata.PackageNotFoundError:
        raise CheckFailedError("ganfleet is not installed, only found on the path; pip install .") from None
    from packaging.requirements import Requirement

    wanted = [need for need in map(Requirement, required) if need.marker is None]
    wrong = [detail for need in wanted if (detail := _unmet(need))]
    if wrong:
        raise CheckFailedError(f"{'; '.join(wrong)}; pip install --upgrade ganfleet")
    return f"ganfleet {ours} and the {len(wanted)} packages that it needs"


def _unmet(need: Any) -> str:
    try:
        version = metadata.version(need.name)
    except metadata.PackageNotFoundError:
        return f"{need.name} is missing"
    return "" if need.specifier.contains(version, prereleases=True) else f"{need.name} {version}, not {need.specifier}"


def _torch() -> str:
    try:
        import torch
    except (ImportError, OSError) as error:
        raise CheckFailedError(f"torch cannot be imported: {error}; install it again") from None
    distributed = torch.distributed.is_available() and torch.distributed.is_gloo_available()
    if not distributed:
        raise CheckFailedError(f"torch {torch.__version__} has no gloo; several workers need another build of torch")
    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def _cuda() -> str:
    try:
        import torch
    except (ImportError, OSError):
        raise CheckFailedError("torch cannot be imported") from None
    machine = expected()
    there = machine.gpus if machine else torch.cuda.device_count()
    if torch.cuda.is_available():
        if not torch.distributed.is_nccl_available():
            raise CheckFailedError("torch has CUDA but no NCCL; several GPUs need another build of torch")
        names = sorted({torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())})
        nccl = ".".join(map(str, torch.cuda.nccl.version()))
        return f"{torch.version.cuda}, {torch.cuda.device_count()} GPUs ({', '.join(names)}), NCCL {nccl}"
    if there:
        built = torch.version.cuda
        raise CheckFailedError(
            f"{there} GPUs that torch does not see: "
            + (f"its CUDA {built} needs a newer driver" if built else "it is built for CPUs; install a CUDA build")
        )
    return "no GPU here: compute.device=cpu"


def _cache() -> str:
    try:
        folder = cache_folder().absolute()
    except SettingsError as error:
        raise CheckFailedError(str(error)) from None
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise CheckFailedError(f"{folder} cannot be written to: {error.strerror}; nearest: {CACHE}") from None
    return str(folder)


def _storage(settings: CommonSettings) -> str:
    location = settings.storage.location
    try:
        with as_settings_error(f"storage.path={location}"):
            return check_store(open_store(location, settings.storage))
    except SettingsError as error:
        raise CheckFailedError(str(error)) from None


def _tracking(settings: CommonSettings) -> str:
    try:
        cache_folder()  # MLflow cannot even be imported where there is no home folder
        uri = settings.tracking_uri
    except SettingsError as error:
        raise CheckFailedError(str(error)) from None
    server = settings.tracking.server
    detail = check_server(uri) if server else uri
    from infra.mlflow.registry import NoRegistryError, check_answers

    if not server and not sqlite_file(uri).exists():
        return f"{uri}: made by the first run"
    try:
        check_answers(uri)
    except NoRegistryError as error:
        raise CheckFailedError(str(error) if server else f"{error}; name another tracking.uri") from None
    return detail


def _cluster() -> Iterator[Finding]:
    address = os.environ.get("RAY_ADDRESS")
    machine = expected()
    if machine is not None:
        yield Finding("ray", True, f"one of our own, {machine.cpus} CPUs, {machine.gpus} GPUs (RAY_ADDRESS is not set)")
        return
    try:
        check_address()
    except ClusterError as error:
        yield Finding("ray", False, str(error))
        return
    try:
        nodes, here = cluster_nodes()
    except CheckFailedError as error:
        yield Finding("ray", False, f"RAY_ADDRESS={address}: {error}")
        return
    cpus, gpus = (sum(node["resources"].get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    yield Finding("ray", True, f"{address}: {len(nodes)} nodes, {cpus:g} CPUs, {gpus:g} GPUs")
    yield _found("versions", lambda: same_versions(nodes, here))


def same_versions(nodes: Sequence[dict[str, Any]], here: dict[str, str]) -> str:
    """Raises CheckFailedError for each package whose version on a node is not the one here."""
    wrong = [
        f"{package} is {node['versions'].get(package)} on {node['node']}, {version} here"
        for node in nodes
        for package, version in here.items()
        if node["versions"].get(package) != version
    ]
    if wrong:
        raise CheckFailedError(
            f"{'; '.join(wrong)}; install the same on all nodes, by one image or one requirements.lock"
        )
    return f"equal on all {len(nodes)} nodes: " + ", ".join(f"{name} {version}" for name, version in here.items())
