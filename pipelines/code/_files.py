"""Which files `compute.ship` names: a folder's modules and what lies next to them, or one module's file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from gan_core.settings import SettingsError, similar_file

MOST_BYTES = 100 * 10**6
MOST_FILES = 20_000
_NOT_CODE = {"__pycache__", "node_modules"}
_PYTHONS_OWN = sys.stdlib_module_names - {"test"}
"""Modules that all others import, too."""


def check_places(places: Sequence[Path]) -> None:
    """Raises SettingsError for a place that is neither a folder that modules lie in, nor a module's file."""
    for place in places:
        if not place.exists():
            names = [path.name for path in place.parent.glob("*")] if place.parent.is_dir() else []
            found = similar_file(place.name, names)
            right = "the folder of your modules" if found is None else f"compute.ship={place.parent / found}"
            raise SettingsError(f"compute.ship={place} is not there", nearest=right)
        package = place if place.is_dir() else place.parent
        if (package / "__init__.py").is_file():
            root = next(folder for folder in package.parents if not (folder / "__init__.py").is_file())
            kind = "is a package" if place.is_dir() else "is a part of a package"
            raise SettingsError(f"compute.ship={place} {kind}, not the folder that it lies in", f"compute.ship={root}")
        if place.is_file() and place.suffix != ".py":
            raise SettingsError(f"compute.ship={place} is no Python module", nearest=f"compute.ship={place.parent}")


def code_files(places: Sequence[Path], apart: Collection[Path] = ()) -> dict[str, Path]:
    """The files to ship by their names in the archive, sorted.

    Left out are hidden files, what git ignores, compiled modules, virtual environments, and what lies `apart`: the
    folders of runs and of the cache. Raises SettingsError if they are no modules, too many, or too large.
    """
    check_places(places)
    found: dict[str, Path] = {}
    owners: dict[str, Path] = {}
    for place in places:
        own = {place.name: place} if place.is_file() else _files_in(place, [path.resolve() for path in apart])
        modules = modules_of(own)
        if not modules:
            below = sorted({name.partition("/")[0] for name in own if name.endswith(".py")})
            right = f"compute.ship={place / below[0]}" if below else "the folder of your modules"
            raise SettingsError(f"compute.ship={place} has no Python module", nearest=right)
        for name in sorted(modules):
            if name in _PYTHONS_OWN and not {f"{name}.py", f"{name}/__init__.py"}.isdisjoint(own):
                raise SettingsError(
                    f"compute.ship={place}: its {name} would hide Python's own module of that name",
                    nearest=f"another name for it, such as my_{name}",
                )
            if owners.setdefault(name, place) != place:
                raise SettingsError(f"compute.ship: {name} is in {owners[name]} and in {place}", nearest="one of them")
        found = {**own, **found}
        _check_size(place, own)
    return dict(sorted(found.items()))


def modules_of(files: Collection[str]) -> set[str]:
    """The names that `import` takes of these files: modules, packages, and folders whose modules need no __init__."""
    return {name.partition("/")[0].removesuffix(".py") for name in files if name.endswith(".py") and _is_name(name)}


def _is_name(file: str) -> bool:
    return all(part.isidentifier() for part in file.removesuffix(".py").split("/"))


def _files_in(folder: Path, apart: Collection[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    listed = _known_to_git(folder)
    walked = _walked(folder, "", {folder.resolve()}) if listed is None else listed
    for name in walked:
        path = folder / name
        if path.suffix == ".pyc" or any(path.resolve().is_relative_to(other) for other in apart):
            continue
        found[name] = path
        if len(found) > MOST_FILES:
            raise SettingsError(
                f"compute.ship={folder} has more than {MOST_FILES} files", nearest="a folder of modules alone"
            )
    return found


def _known_to_git(folder: Path) -> Iterator[str] | None:
    """The files that git tracks or would add, and what an installation says of the modules (`*.egg-info`), which git
    mostly ignores; None if git does not know the folder."""
    command = ["git", "-C", str(folder), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    names = [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]
    return None if done.returncode or not names else _of_listing(folder, names)


def _of_listing(folder: Path, names: Sequence[str]) -> Iterator[str]:
    for about in folder.glob("*.egg-info"):
        yield from _walked(about, f"{about.name}/", {folder.resolve()})
    for name in names:
        if not all(map(_is_wanted, name.split("/"))):
            continue
        if (folder / name).is_dir():  # a link, or a repository inside of this one
            yield from _walked(folder / name, f"{name}/", {folder.resolve()})
        elif (folder / name).is_file():
            yield name


def _walked(folder: Path, before: str, seen: set[Path]) -> Iterator[str]:
    """The files below a folder, with links followed; `seen`: the folders on the way, as links may lead in a circle."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise SettingsError(f"compute.ship: {folder} cannot be read: {error.strerror}", nearest="chmod u+rx") from None
    for path in entries:
        if not _is_wanted(path.name):
            continue
        if path.is_file():
            yield before + path.name
        elif path.is_dir() and path.resolve() not in seen and not (path / "pyvenv.cfg").is_file():
            yield from _walked(path, f"{before}{path.name}/", {*seen, path.resolve()})


def _is_wanted(name: str) -> bool:
    return not name.startswith(".") and name not in _NOT_CODE


def _check_size(place: Path, files: Mapping[str, Path]) -> None:
    sizes = {name: path.stat().st_size for name, path in files.items()}
    total = sum(sizes.values())
    if total <= MOST_BYTES:
        return
    by_top: dict[str, int] = {}
    for name, size in sizes.items():
        top = name.partition("/")[0]
        by_top[top] = by_top.get(top, 0) + size
    largest = max(by_top, key=lambda top: by_top[top])
    right = "src" if (place / "src").is_dir() and largest != "src" else ""
    raise SettingsError(
        f"compute.ship={place} has {_mb(total)}, of which {largest} is {_mb(by_top[largest])}; at most"
        f" {_mb(MOST_BYTES)} are shipped",
        nearest=f"compute.ship={place / right}" if right else f"{largest} in a .gitignore, or elsewhere",
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
