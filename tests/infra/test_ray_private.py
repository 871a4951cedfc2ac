"""What we use of Ray without its promise: that it is there, and that only `infra/ray_private.py` uses it."""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "infra" / "ray_private.py"
NAMES = [
    ("ray._common.usage.usage_lib", "get_cluster_metadata"),
    ("ray._private.authentication.authentication_token_setup", "maybe_enable_token_auth_if_token_available"),
    ("ray._private.services", "find_bootstrap_address"),
    ("ray._private.services", "find_gcs_addresses"),
    ("ray._raylet", "GcsClient"),
    ("ray._private", "utils"),
    ("ray.train.v2._internal.execution.callback", "ControllerCallback"),
    ("ray.train.v2.api.data_parallel_trainer", "DataParallelTrainer"),
    ("ray.tune.experiment.config_parser", "_create_trial_from_spec"),
    ("ray.tune.experiment.config_parser", "_make_parser"),
]


def names_of_ray(file: Path) -> Iterator[str]:
    """Each module of Ray that a file imports, and each name that it takes from one, with all its attributes."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name.split(".")[0] == "ray")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ray":
            yield from (f"{node.module}.{one.name}" for one in node.names)
        elif isinstance(node, ast.Attribute) and (dotted := ast.unparse(node)).startswith("ray."):
            yield dotted


def private(name: str) -> bool:
    return any(part.startswith("_") and not part.startswith("__") for part in name.split("."))


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[name for _, name in NAMES])
def test_ray_has_what_we_use_of_it(module, name):
    """If this fails, Ray has moved the name: infra/ray_private.py must follow, and Ray's bounds in pyproject.toml."""
    assert hasattr(import_module(module), name), f"Ray has no {module}.{name} any more"


def test_every_private_name_is_in_this_list():
    assert set(names_of_ray(FILE)) == {f"{module}.{name}" for module, name in NAMES}


def test_no_other_file_names_what_is_private_in_ray():
    ours = {f"{module}.{name}" for module, name in NAMES}
    packages = ("gan_core", "tune_spaces", "infra", "pipelines")
    found = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in (path for package in packages for path in (ROOT / package).rglob("*.py"))
        if file != FILE
        for name in names_of_ray(file)
        if private(name) or name in ours
    }
    assert found == set()
