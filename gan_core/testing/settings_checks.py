"""Checks of a family as settings: frozen, rebuilt from a file, and imported without torch."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import yaml

from gan_core.family import Family, family_class
from gan_core.settings import Settings, SettingsError
from gan_core.testing.fault import Fault

_IMPORTING = """
import sys, traceback
class Torch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            frames = [one for one in traceback.extract_stack() if not one.filename.startswith(("<frozen", "<string"))]
            print(f"{frames[-1].filename}:{frames[-1].lineno}" if frames else sys.argv[1])
            sys.stdout.flush()
            import os
            os._exit(3)
sys.meta_path.insert(0, Torch())
import importlib
importlib.import_module(sys.argv[1])
"""


def settings_faults(family: Family) -> Iterator[Fault]:
    """What is wrong with a family's fields, and with the import of its module."""
    kind = type(family)
    for option, right in (("frozen", True), ("extra", "forbid")):
        if kind.model_config.get(option) != right:
            wrong = f"{kind.__name__} has model_config {option}={kind.model_config.get(option)!r}"
            yield Fault("settings", wrong, f"leave {option}={right!r}, which {Family.__name__} has")
    yield from needed(kind)
    yield from _rebuilt(family)
    yield from _imported(kind)


def needed(kind: type[Family]) -> Iterator[Fault]:
    """A fault for each field without a default."""
    for name, field in kind.model_fields.items():
        if field.is_required():
            yield Fault("settings", f"the field {name} of {kind.__name__} has no default", f"{name}: ... = VALUE")


def _rebuilt(family: Family) -> Iterator[Fault]:
    """A family must be what its settings say: a checkpoint has them as JSON, a run's folder as YAML."""
    kind = type(family)
    for form in ("JSON", "YAML"):
        try:
            values = family.model_dump(mode="json")
            text = json.dumps(values) if form == "JSON" else yaml.safe_dump(values)
            values = json.loads(text) if form == "JSON" else yaml.safe_load(text)
            again: Settings = kind.load({key: value for key, value in values.items() if key != "name"})
        except Exception as error:  # what a field's type raises
            said = " ".join(str(error).split())[:200]
            wrong = f"{kind.__name__} cannot be rebuilt from its settings as {form}: {type(error).__name__}: {said}"
            yield Fault("settings", wrong, _PLAIN)
            return
        other = [name for name in kind.model_fields if getattr(again, name) != getattr(family, name)]
        if other:
            name = other[0]
            wrong = f"field {name} is {getattr(family, name)!r}, and {getattr(again, name)!r} when rebuilt from {form}"
            yield Fault("settings", wrong, _PLAIN)
            return


_PLAIN = "fields are numbers, words, true or false; build everything else in recipe()"


def _imported(kind: type[Family]) -> Iterator[Fault]:
    """The command line imports a family to check its settings, so that must be fast."""
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        return  # nothing but the running program has it
    path = os.pathsep.join(part or os.getcwd() for part in sys.path)
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTING, kind.__module__],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 3:
        wrong = (
            f"importing {kind.__module__} imports torch ({done.stdout.strip().splitlines()[-1]}), which takes seconds"
        )
        yield Fault("import", wrong, "import torch, and gan_core modules that need it, in recipe()")
    elif done.returncode:
        said = (done.stderr.strip().splitlines() or ["it stops"])[-1]
        mend = "leave out of that module what only this program has"
        yield Fault("import", f"a new Python cannot import {kind.__module__}: {said}", mend)


def as_family(family: Family | type[Family] | str) -> Family:
    """A family with its defaults, from its class, its name or its place. Raises SettingsError."""
    if isinstance(family, Family):
        return family
    kind = family_class(family) if isinstance(family, str) else family
    if not (inspect.isclass(kind) and issubclass(kind, Family)):
        raise SettingsError(f"{family!r} is no Family", nearest="check_family(MyGan), with class MyGan(Family)")
    return kind.load({})
