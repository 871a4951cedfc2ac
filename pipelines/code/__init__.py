"""The user's own modules, which `compute.ship` names: packed into one archive, unpacked wherever they are imported.

Nothing here imports torch, and Ray only where it is used."""

from pipelines.code._archive import changed_files, make_importable, modules_in, pack, unpacked
from pipelines.code._files import check_places, code_files
from pipelines.code._own import folder_of, own_modules
from pipelines.code._sealed import Code, in_ray, opened, sealed

__all__ = [
    "Code",
    "changed_files",
    "check_places",
    "code_files",
    "folder_of",
    "in_ray",
    "make_importable",
    "modules_in",
    "opened",
    "own_modules",
    "pack",
    "sealed",
    "unpacked",
]
