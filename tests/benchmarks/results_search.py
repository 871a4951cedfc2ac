"""The search of `wide_search.yaml` for docs/RESULTS.md: played by `results.py search`, told by `results.py report`."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
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
    lines = ["| family | FID mean (lowest-highest) | seeds | in the search | settings |", "|---|---|---|---|---|"]
    for row in confirmed:
        names = list(row)[2 : list(row).index("mean")]
        values = " ".join(f"{name}={float(row[name]):.3g}" for name in names if row[name])
        mean = f"{float(row['mean']):.1f} ({float(row['min']):.1f}-{float(row['max']):.1f})" if row["mean"] else "-"
        seeds = sum(name.startswith("fid_") for name in row)
        lines.append(f"| `{row['family']}` | {mean} | {seeds} | {float(row['search_fid']):.1f} | {values} |")
    pictures = [f"![{file.stem}](results/{WIDE}/{file.name})" for file in sorted(there.glob("*.png"))]
    return [
        "## Five families over wide ranges",
        "",
        "`space=wide` is the ranges of Lucic et al. 2018. Twelve trials a family by TPE, stopped early by ASHA, at most"
        " 1,000 generator updates; then the best of each again, to the end, with three seeds that the search had not"
        " used. What won by luck is seen in how far the mean lies above the FID in the search.",
        "",
        *lines,
        "",
        (there / "families.md").read_text(),
        *pictures,
        "",
    ]
