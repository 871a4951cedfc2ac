"""What docs/RESULTS.md tells of searches: `wide_search.yaml`, played by `results.py search`, and what these wrote:

    python tests/benchmarks/search_efficiency.py --seeds 7 --picture docs/results/search/efficiency.png \\
        | tail -n 1 > docs/results/search/efficiency.json
    python tests/benchmarks/search_overhead.py > docs/results/search/overhead.json
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs"
KEPT = DOCS / "results"
WIDE, TABLES = "wide-search", ("families.md", "families.csv", "confirmed.csv", "trials.csv")


def search() -> None:
    """Plays the search of `wide_search.yaml` and keeps its tables and pictures; its runs stay in runs/."""
    folder = DOCS.parent / "runs" / WIDE
    words = ["--resume", WIDE] if folder.is_dir() else ["--config", str(HERE / "wide_search.yaml"), f"name={WIDE}"]
    command = [sys.executable, "-m", "pipelines.cli", "search", *words, f"storage.path={folder.parent}"]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=DOCS.parent)
    (KEPT / WIDE).mkdir(parents=True, exist_ok=True)
    for file in [*(folder / name for name in TABLES), *(folder / "learned").glob("*.png")]:
        shutil.copy(file, KEPT / WIDE / file.name)


def searched() -> list[str]:
    """The families of the wide search, the settings that won, and what was learned."""
    there = KEPT / WIDE
    if not there.is_dir():
        return []
    with (there / "confirmed.csv").open(newline="") as file:
        confirmed = list(csv.DictReader(file))
    rows = []
    for row in confirmed:
        names = list(row)[2 : list(row).index("mean")]
        values = " ".join(f"{name}={float(row[name]):.3g}" for name in names if row[name])
        mean = f"{float(row['mean']):.1f} ({float(row['min']):.1f}-{float(row['max']):.1f})" if row["mean"] else "-"
        seeds = sum(name.startswith("fid_") for name in row)
        rows.append([f"`{row['family']}`", mean, seeds, f"{float(row['search_fid']):.1f}", values])
    pictures = [f"![{file.stem}](results/{WIDE}/{file.name})" for file in sorted(there.glob("*.png"))]
    return [
        "## Five families over wide ranges",
        "",
        "`space=wide` is the ranges of Lucic et al. 2018. Twelve trials a family by TPE, stopped early by ASHA, at most"
        " 1,000 generator updates; then the best of each again, to the end, with three seeds that the search had not"
        " used. What won by luck is seen in how far the mean lies above the FID in the search. BEGAN gets nowhere in so"
        " few updates: its k, which moves by lambda_k (0.01 at most) an update, hardly leaves 0.",
        "",
        *table(("family", "FID mean (lowest-highest)", "seeds", "in the search", "settings"), rows),
        "",
        (there / "families.md").read_text(),
        *pictures,
        "",
    ]


def efficiency() -> list[str]:
    """Random trials of full length against a search that stops early, with a quarter of their images."""
    file = KEPT / "search" / "efficiency.json"
    if not file.is_file():
        return []
    found = json.loads(file.read_text())
    rows = [
        [row["seed"], f"{row['random_fid']:.0f}", f"{row['early_fid']:.0f}", _share(row["share_to_be_as_good"])]
        for row in found["rows"]
    ]
    return [
        "## Early stopping and a model against random trials",
        "",
        "WGAN-GP on 8x8 digits, `space=wide`: 32 random trials of full length, and TPE with ASHA on a quarter of the"
        " images that they saw. The last column is the share of those images after which the second search was as good"
        f" as the first at its end; median over {len(rows)} seeds: {_share(found['median_share_to_be_as_good'])}.",
        "",
        *table(("seed", "FID, random", "FID, TPE and ASHA", "images to be as good"), rows),
        "",
        "![best FID so far against images](results/search/efficiency.png)",
        "",
    ]


def overhead() -> list[str]:
    """What a search of many short trials costs beside their training."""
    file = KEPT / "search" / "overhead.json"
    if not file.is_file():
        return []
    found = json.loads(file.read_text())
    memory = " / ".join(f"{mb:.0f}" for mb in found["driver_rss_mb"])
    rows = [
        ["trials", found["trials"]],
        ["training of a trial, s", f"{found['training_of_a_trial']:.2f}"],
        ["overhead of a trial, s", f"{found['further_trial_overhead']:.2f}"],
        ["of that, two evaluations, s", f"{2 * found['evaluation_seconds']:.2f}"],
        ["overhead of the search, s", f"{found['search_overhead_seconds']:.1f}"],
        ["not in it: MLflow's database, made once a machine, s", f"{found['database_seconds']:.1f}"],
        ["all beyond training, s", f"{found['beyond_training_seconds']:.0f}"],
        ["a second a trial and 15 s a search would be, s", found["trials"] + 15],
        ["overhead of a trial, last quarter over second", f"{found['growth']:.2f}"],
        ["memory of the driver after a tenth, a half, all, MB", memory],
    ]
    return ["## What a search costs beside its trials", "", *table(("what", "measured"), rows), ""]


def _share(share: float | None) -> str:
    """In per cent; of those that were never as good, a dash."""
    return "-" if share is None or share == float("inf") else f"{100 * share:.0f}%"


def table(headings: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """Lines of Markdown."""
    lines = [[*headings], *([str(cell) for cell in row] for row in rows)]
    marked = [f"| {' | '.join(line)} |" for line in lines]
    return [marked[0], "|---" * len(lines[0]) + "|", *marked[1:]]
