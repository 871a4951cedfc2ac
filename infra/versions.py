"""Which code made a run: its commit, and the versions of the main packages."""

import platform
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path

PACKAGES = ("ganfleet", "torch", "ray", "mlflow")


def version_tags() -> dict[str, str]:
    """Tags `mlflow.source.git.commit` and `ganfleet.version.NAME`. Packages that are not installed have none.

    The commit is that of the repository in the working folder, otherwise of the checkout that holds this package.
    """
    tags = {"ganfleet.version.python": platform.python_version()}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            tags[f"ganfleet.version.{package}"] = metadata.version(package)
    commit = _commit(Path.cwd()) or _commit(Path(__file__).parent)
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})


def version_of(package: str) -> str:
    """The installed version without its local part ("+cu130"). The package is not imported."""
    return metadata.version(package).partition("+")[0]


def _commit(folder: Path) -> str | None:
    command = ["git", "-C", str(folder), "rev-parse", "--verify", "--quiet", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
