"""What docs/RESULTS.md tells of tracking, from what this wrote:

python tests/benchmarks/tracking_calls.py > docs/results/tracking/calls.json
"""

from __future__ import annotations

import json

from results_search import KEPT, table

STORES = {"sqlite": "SQLite", "postgresql": "a server on PostgreSQL"}
WAYS = {"rows": "row by row", "batched": "batched"}


def tracked() -> list[str]:
    """Calls of MLflow row by row and batched, side by side."""
    file = KEPT / "tracking" / "calls.json"
    if not file.is_file():
        return []
    found = json.loads(file.read_text())
    rows = []
    for store, about in STORES.items():
        for way, said in WAYS.items():
            one = found[store][way]
            answer = " / ".join(f"{ms:.0f}" for ms in one["answer_ms"])
            numbers = [
                f"{one[key]:.0f}" for key in ("calls_per_run", "calls_per_second", "points_per_second", "seconds")
            ]
            rows.append([about, said, *numbers, answer])
    ratios = [
        f"{about}: {found[store]['fewer_calls']:.1f} times fewer calls, {found[store]['faster']:.1f} times faster"
        for store, about in STORES.items()
    ]
    return [
        "## What tracking asks of MLflow",
        "",
        f"{found['runs']:,} child runs of {found['points']} points, five metrics each, from {found['processes']}"
        " processes that do nothing else, an evaluation every tenth point; two cores, shared with the server and, when"
        " this was measured, with other work: compare the rows, not the seconds. Every value was looked for in the"
        " database afterwards: none was lost, none was there twice. The last column is how"
        f" long somebody else's question took meanwhile. {'; '.join(ratios)}.",
        "",
        *table(
            ("into", "how", "calls a run", "calls a second", "points a second", "seconds", "answer, ms, median / 95%"),
            rows,
        ),
        "",
    ]
