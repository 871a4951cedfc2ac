"""Values for processes of Ray that can be read only where the user's modules can be imported: they bring them along."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.code._archive import make_importable, unpacked


@dataclass(frozen=True)
class Code:
    """Where other processes find the user's modules."""

    archive: Any
    """An archive of modules in Ray's object store, which brings it to each node once; None if there is none."""
    folders: Sequence[Path] = ()
    """Folders of this machine, which are looked in after all of Python's own places."""


def in_ray(archive: bytes | None, folders: Sequence[Path] = ()) -> Code | None:
    """An archive and folders for other processes; None if there is neither."""
    import ray

    if archive is None and not folders:
        return None
    return Code(None if archive is None else ray.put(archive), folders)


@dataclass(frozen=True)
class Sealed:
    """A pickled value, and the modules that it needs."""

    code: Code
    content: bytes


def sealed(value: Any, code: Code | None) -> Any:
    """The value as it is sent to another process. Without code it stays as it is."""
    from ray import cloudpickle

    return value if code is None else Sealed(code, cloudpickle.dumps(value))


def opened(value: Any) -> Any:
    """What was `sealed`, once its modules can be imported in this process."""
    if not isinstance(value, Sealed):
        return value
    import ray
    from ray import cloudpickle

    sys.path += [str(folder) for folder in value.code.folders if str(folder) not in sys.path]
    archive = value.code.archive
    make_importable([] if archive is None else [unpacked(ray.get(archive))])
    return cloudpickle.loads(value.content)
