"""Values for processes of Ray that can be read only where the user's modules can be imported: they bring them along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.code._archive import make_importable, unpacked


@dataclass(frozen=True)
class Code:
    """An archive of modules in Ray's object store, which brings it to each node once."""

    archive: Any


def in_ray(archive: bytes | None) -> Code | None:
    """An archive for other processes; None if there is none."""
    import ray

    return None if archive is None else Code(ray.put(archive))


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

    make_importable([unpacked(ray.get(value.code.archive))])
    return cloudpickle.loads(value.content)
