"""How files and packages hang together: the diagram of ARCHITECTURE.md is true, and nothing imports in a circle."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.package_arrows import (
    OURS,
    ROOT,
    block,
    circles,
    current,
    floors,
    grouped,
    imports,
    module_files,
    module_graph,
    parts,
    pipeline_graph,
    reduced,
)

MOST_MODULES = 12


@pytest.fixture(scope="module")
def modules() -> dict[str, set[str]]:
    return module_graph()


def test_imports_are_found_by_module_wherever_they_stand():
    source = """
from a.b import c, name
if TYPE_CHECKING:
    import a.d
def late():
    from a import b
"""
    assert imports(source, ["a", "a.b", "a.b.c", "a.d", "a.e"]) == {"a.b.c", "a.b", "a.d"}


def test_a_circle_is_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}
    assert circles(graph) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_arrows_that_follow_from_others_are_left_out():
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert reduced(graph) == {"a": {"b"}, "b": {"c"}, "c": set()}
    assert floors(graph) == [["c"], ["b"], ["a"]]
    assert grouped({"p.x.m": {"p.y.n", "p.x.o"}, "p.x.o": set(), "p.y.n": set()}, ["p.x", "p.y"]) == {
        "p.x": {"p.y"},
        "p.y": set(),
    }


def test_the_diagram_of_the_architecture_is_true():
    assert current() == block(), "run: python -m tests.package_arrows --write"


def test_the_packages_of_pipelines_import_in_no_circle():
    assert circles(pipeline_graph()) == []


def test_files_import_in_no_circle(modules):
    assert circles(modules) == []


def test_a_folder_is_seen_at_one_look():
    folders: dict[Path, int] = {}
    for root in (*OURS, "tests"):
        for path in (ROOT / root).rglob("*.py"):
            folder = path.parent.relative_to(ROOT)
            folders[folder] = folders.get(folder, 0) + 1
    assert {str(folder): count for folder, count in folders.items() if count > MOST_MODULES} == {}


def test_pipelines_is_made_of_packages():
    assert len(list((ROOT / "pipelines").glob("*.py"))) <= 3


def test_a_file_with_an_underscore_is_of_its_own_package(modules):
    strangers = [
        f"{source} imports {target}"
        for source, targets in modules.items()
        for target in targets
        if target.rpartition(".")[2].startswith("_") and not f"{source}.".startswith(f"{target.rpartition('.')[0]}.")
    ]
    assert strangers == []


def test_a_file_without_an_underscore_is_used_from_outside(modules):
    files = module_files(["pipelines"])
    packages = {name for name, path in files.items() if path.name == "__init__.py"}
    public = [name for name in files if name not in packages and not name.rpartition(".")[2].startswith("_")]
    unused = []
    for name in public:
        package = name.rpartition(".")[0]
        users = {source for source, targets in modules.items() if name in targets}
        outside = {user for user in users if user not in packages and user.rpartition(".")[0] != package}
        if not outside and package not in users:
            unused.append(name)
    assert unused == []


def test_a_search_is_told_in_few_words(modules):
    found = sorted(name for name in modules["pipelines.search.command"] if name.startswith("pipelines."))
    assert len(found) <= 12, found


def test_each_package_of_pipelines_is_drawn():
    assert {name.removeprefix("pipelines.") for name in parts("pipelines")} >= {
        *("cli", "data", "evaluate", "jobs", "launch", "runs", "search", "settings", "sync", "tracking", "train")
    }
