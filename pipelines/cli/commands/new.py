"""The command `new`: writes a package of a GAN of one's own."""

from __future__ import annotations

import keyword
import os
import re
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from gan_core.family import family_names
from gan_core.settings import SettingsError

TEMPLATES = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "README.md.txt",
    "src/PACKAGE/gans.py": "gans.py.txt",
    "src/PACKAGE/nets.py": "nets.py.txt",
    "src/PACKAGE/data.py": "data.py.txt",
    "tests/test_PACKAGE.py": "test.py.txt",
}
"""The files of a package, and what they are made of. In them PACKAGE and CLASS stand for its names."""
EMPTY = ("src/PACKAGE/__init__.py", "src/PACKAGE/py.typed")


def register(app: typer.Typer) -> None:
    """Adds the command to the others."""
    app.command()(new)


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the package, of its folder and of the family.")],
) -> None:
    """Write a package with a GAN, networks and data of your own, and their test."""
    _check_name(name)
    folder = Path(name)
    if os.path.lexists(folder):
        raise SettingsError(f"{folder} exists", nearest=f"ganfleet new {_free(name)}")
    try:
        _write(name, folder)
    except OSError as error:
        raise SettingsError(
            f"{folder.absolute()}: {error.strerror}", nearest="a folder that you may write to"
        ) from None
    typer.echo(
        f"{name}/ is written. Next:\n"
        f"  cd {name}\n"
        "  pip install --no-build-isolation -e .\n"
        "  pytest\n"
        f"  ganfleet train {name}"
    )


def class_name(name: str) -> str:
    """What the family's class is called in a package of that name: MyGan in my_gan."""
    return "".join(part.capitalize() for part in name.split("_"))


def _check_name(name: str) -> None:
    """Raises SettingsError for a name that no package or no family can have, with the nearest that one can."""
    plain = re.sub(r"\W+|_+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", Path(name).name), flags=re.ASCII)
    right = re.sub(r"^[0-9_]+", "", plain.lower()).strip("_") or "my_gan"
    if keyword.iskeyword(right):
        right = f"{right}_gan"
    if right != name:
        wrong = f"'{name}' is no name of a package: small letters, digits and _"
        raise SettingsError(wrong, nearest=f"ganfleet new {_free(right)}")
    why = _taken(name)
    if why:
        raise SettingsError(f"'{name}' is taken: {why}", nearest=f"ganfleet new {_free(name)}")


def _taken(name: str) -> str:
    """Why a family or a package of that name would hide another; nothing if none would."""
    if name in family_names():
        return "there is a family of that name"
    here = {"", os.getcwd(), str(Path().absolute())}
    kept, sys.path[:] = sys.path[:], [place for place in sys.path if place not in here]
    try:
        return "Python has a module of that name" if find_spec(name) else ""
    finally:
        sys.path[:] = kept


def _free(name: str) -> str:
    """The name, or one like it, that nothing has."""
    candidates = [
        name,
        *([] if name.startswith("my_") else [f"my_{name}"]),
        *(f"{name}_{number}" for number in range(2, 100)),
    ]
    return next((one for one in candidates if not os.path.lexists(one) and not _taken(one)), "my_gan")


def _write(name: str, folder: Path) -> None:
    for path, template in TEMPLATES.items():
        text = (files("pipelines.cli.commands") / "package" / template).read_text()
        _file(folder, path, name).write_text(text.replace("PACKAGE", name).replace("CLASS", class_name(name)))
    for path in EMPTY:
        _file(folder, path, name).touch()


def _file(folder: Path, path: str, name: str) -> Path:
    file = folder / path.replace("PACKAGE", name)
    file.parent.mkdir(parents=True, exist_ok=True)
    return file
