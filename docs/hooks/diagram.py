"""The graph of packages as a picture that a page holds itself: Mermaid's script would be fetched from elsewhere."""

from __future__ import annotations

from tests.package_arrows import Graph, floors, reduced

WIDTH, HEIGHT, ACROSS, DOWN = 92, 28, 150, 64


def drawn(graph: Graph) -> str:
    """An SVG element: the highest floor on top, an arrow from each package down to what it imports."""
    rows = list(reversed(floors(graph)))
    middle = max(map(len, rows)) * ACROSS / 2
    arrows = reduced(graph)
    places: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows):
        above = {name: [places[one][0] for one in arrows if name in arrows[one] and one in places] for name in row}
        row = sorted(row, key=lambda name: sum(above[name]) / len(above[name]) if above[name] else middle)
        for place, name in enumerate(row):
            places[name] = (middle + (place - (len(row) - 1) / 2) * ACROSS, 8 + number * DOWN)
    parts = [
        f'<path marker-end="url(#tip)" d="{_curve(places[source], places[target])}"/>'
        for source, targets in sorted(arrows.items())
        for target in sorted(targets)
    ]
    for name, (x, y) in sorted(places.items()):
        parts.append(f'<rect x="{x - WIDTH / 2:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="5"/>')
        parts.append(f'<text x="{x:g}" y="{y + 19:g}">{name.removeprefix("pipelines.")}</text>')
    tip = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8"/></marker></defs>'
    )
    size = f"0 0 {2 * middle:g} {len(rows) * DOWN - DOWN + HEIGHT + 16:g}"
    return f'<svg class="arrows" viewBox="{size}" width="{2 * middle:g}" role="img">{tip}{"".join(parts)}</svg>'


def _curve(source: tuple[float, float], target: tuple[float, float]) -> str:
    """From the lower edge of one box to the upper edge of another; bent outwards where it passes floors between."""
    (x0, y0), (x1, y1) = source, target
    y0 += HEIGHT
    between = int((y1 - y0) / DOWN)
    bend = 0.0 if between < 1 or abs(x1 - x0) > 1 else 70.0
    half = (y1 - y0) / 2
    return f"M{x0:g} {y0:g}C{x0 + bend:g} {y0 + half:g} {x1 + bend:g} {y1 - half:g} {x1:g} {y1:g}"
