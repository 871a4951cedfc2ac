"""Which package imports which, read from the source: the diagram of ARCHITECTURE.md.

python -m tests.package_arrows            # prints it
python -m tests.package_arrows --write    # rewrites the block between its two markers in ARCHITECTURE.md
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = ("gan_core", "tune_spaces", "infra", "pipelines")
PAGE = ROOT / "ARCHITECTURE.md"
BEGIN = "<!-- arrows: written by python -m tests.package_arrows --write -->"
END = "<!-- end of arrows -->"

Graph = Mapping[str, set[str]]


def module_files(roots: Iterable[str] = OURS) -> dict[str, Path]:
    """Each module of ours by its dotted name; a package is its `__init__`."""
    found = {}
    for root in roots:
        for path in sorted((ROOT / root).rglob("*.py")):
            found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


def imports(source: str, known: Iterable[str]) -> set[str]:
    """The known modules that a file imports, wherever in it the statement stands."""
    known, found = set(known), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in known else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & known


def module_graph() -> dict[str, set[str]]:
    """Each module of ours with the modules of ours that it imports."""
    files = module_files()
    return {name: imports(path.read_text(), files) - {name} for name, path in files.items()}


def grouped(modules: Graph, groups: Iterable[str]) -> dict[str, set[str]]:
    """The arrows between groups of modules; a module belongs to the longest group that its name begins with."""
    groups = sorted(groups, key=len, reverse=True)

    def group(module: str) -> str | None:
        return next((name for name in groups if f"{module}.".startswith(f"{name}.")), None)

    found: dict[str, set[str]] = {name: set() for name in groups}
    for module, targets in modules.items():
        source = group(module)
        if source is not None:
            found[source] |= {name for name in map(group, targets) if name is not None} - {source}
    return found


def circles(graph: Graph) -> list[list[str]]:
    """Groups of nodes that reach one another: Tarjan's strongly connected components of two nodes or more."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def reduced(graph: Graph) -> dict[str, set[str]]:
    """The graph without arrows that follow from others: a -> c where there is a -> b -> ... -> c."""

    def reaches(node: str) -> set[str]:
        return {node}.union(*(reaches(target) for target in graph[node]))

    return {
        node: {target for target in targets if not any(target in reaches(other) for other in targets - {target})}
        for node, targets in graph.items()
    }


def floors(graph: Graph) -> list[list[str]]:
    """The nodes by height: each imports only from floors below its own."""
    heights: dict[str, int] = {}
    for node in TopologicalSorter(graph).static_order():
        heights[node] = 1 + max((heights[target] for target in graph[node]), default=-1)
    found: list[list[str]] = [[] for _ in range(1 + max(heights.values()))]
    for node in sorted(heights):
        found[heights[node]].append(node)
    return found


def parts(root: str) -> list[str]:
    """The packages directly in one of ours, and for `pipelines` its two single files."""
    files = module_files([root])
    inside = [name for name in files if name.count(".") == 1]
    return [name for name in inside if files[name].name == "__init__.py" or root == "pipelines"]


def pipeline_graph() -> dict[str, set[str]]:
    """The arrows between the packages of `pipelines`."""
    return grouped(module_graph(), parts("pipelines"))


def base_graph() -> dict[str, set[str]]:
    """The arrows between `tune_spaces`, `pipelines` and the packages of `gan_core` and `infra`.

    Files directly in `gan_core` are the words that its packages share, so no arrow is drawn to them or from them; those
    of `infra` likewise.
    """
    modules = module_graph()
    found = grouped(modules, ["tune_spaces", "pipelines", *parts("gan_core"), *parts("infra")])
    for name, targets in grouped(modules, OURS).items():
        if name in ("tune_spaces", "pipelines"):
            found[name] |= {target for target in targets if target in ("gan_core", "infra")}
    return {"gan_core": set(), "infra": set(), **found}


def mermaid(graph: Graph) -> str:
    """The graph without arrows that follow from others, as Mermaid draws it: each arrow points to what is imported."""
    lines = ["graph TD"]
    for source, targets in sorted(reduced(graph).items()):
        lines += [f"    {_short(source)} --> {_short(target)}" for target in sorted(targets)]
    return "\n".join(["```mermaid", *lines, "```"])


def listed(graph: Graph) -> str:
    """The same as text, the highest floor first: what each node imports."""
    width = max(len(_short(node)) for node in graph)
    lines = []
    for height, nodes in reversed(list(enumerate(floors(graph)))):
        for node in nodes:
            targets = " ".join(_short(target) for target in sorted(graph[node])) or "-"
            lines.append(f"{height}  {_short(node):<{width}}  {targets}")
    return "\n".join(["```text", *lines, "```"])


def _short(name: str) -> str:
    return name.removeprefix("pipelines.")


def block() -> str:
    """What stands between the markers."""
    pipelines, base = pipeline_graph(), base_graph()
    return "\n\n".join(
        [
            "Packages of `pipelines`; an arrow points to an import. Arrows that follow from others are left out.",
            mermaid(pipelines),
            "The same by floors, with every arrow: a package imports only from floors below its own.",
            listed(pipelines),
            "Below them, `gan_core`, `tune_spaces` and `infra`:",
            listed(base),
        ]
    )


def current(page: Path = PAGE) -> str:
    """What the page has between its markers."""
    return page.read_text().split(BEGIN)[1].split(END)[0].strip("\n")


def write(page: Path = PAGE) -> None:
    """Rewrites the block of the page."""
    before, rest = page.read_text().split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{block()}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    write() if "--write" in sys.argv[1:] else print(block())
