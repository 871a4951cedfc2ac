"""Does a search with early stopping and a model find as good settings for a quarter of the images?

For each seed two searches of the same space: 32 random trials of full length, and TPE with ASHA, which may see a
quarter of their images. Drawn is the best FID so far against the images that all trials together have seen; printed, as
JSON, each seed's best and what share of the images the second search needed to be as good as the first at its end.

    python tests/benchmarks/search_efficiency.py [--seeds 5] [--image-size 8] [--picture FILE.png]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from rich.console import Console

from infra.cluster import cluster
from pipelines.console import quiet, say
from pipelines.launch._search_request import search_experiment
from pipelines.runs._folder import RunFolder
from pipelines.search.command import search

SHARE, EVERY = 4, 9
"""Of the random trials' images the second search may see one in so many; rounds between two evaluations."""

Curve = list[tuple[int, float]]
"""Images that all trials have seen, and the best FID until then."""


def curve_of(journal: Path) -> Curve:
    """The best FID so far against images, from what a search wrote as it went."""
    seen: dict[str, int] = {}
    curve: Curve = []
    for line in map(json.loads, journal.read_text().splitlines()):
        result = line.get("result")
        if result is None:
            continue
        seen[line["trial"]] = int(result["images_seen"])
        if line.get("state") != "failed" and "fid" in result:
            best = min(curve[-1][1], result["fid"]) if curve else result["fid"]
            curve.append((sum(seen.values()), best))
    return curve


@dataclass(frozen=True)
class Plan:
    """What both searches share."""

    storage: Path
    image_size: int = 8
    trials: int = 32
    rounds: int = 243
    """Critic steps of a trial of full length, each of 64 images."""


def searched(plan: Plan, name: str, seed: int, *words: str) -> Curve:
    """One search's curve."""
    experiment = search_experiment(
        ["wgan_gp"],
        [
            *(f"name={name}-{seed}", f"storage.path={plan.storage}", f"seed={seed}", "search.confirm=0"),
            *(f"data.image_size={plan.image_size}", "family.width=8", "family.latent=16", "metrics.samples=500"),
            *(f"budget.images={64 * plan.rounds}", f"budget.eval_every={EVERY}", f"budget.log_every={EVERY}"),
            "space=wide",
            *words,
        ],
    )
    folder = RunFolder(experiment.folder)
    folder.create(experiment.to_yaml())
    with quiet(folder.ray_log):
        search(experiment, folder, Console(quiet=True))
    return curve_of(folder.journal)


def compared(plan: Plan, seed: int) -> tuple[Curve, Curve]:
    """Random trials of full length, and TPE with ASHA on a quarter of their images."""
    of_random = ("search.sampler=random", "search.scheduler=none", f"search.trials={plan.trials}")
    random = searched(plan, "random", seed, *of_random)
    quarter = f"search.images={random[-1][0] // SHARE}"
    of_early = ("search.sampler=tpe", "search.scheduler=asha", f"search.trials={10 * plan.trials}", quarter)
    return random, searched(plan, "early", seed, *of_early)


def draw(file: Path, curves: list[tuple[Curve, Curve]]) -> None:
    """Both curves of each seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    names = ("32 random trials of full length", "TPE with ASHA, a quarter of the images")
    for side, (name, color) in enumerate(zip(names, ("#888888", "#0072b2"), strict=True)):
        for number, pair in enumerate(curves):
            images, fids = zip(*pair[side], strict=True)
            axes.step(images, fids, where="post", color=color, alpha=0.8, label=name if number == 0 else None)
    axes.set(xscale="log", yscale="log", xlabel="real images seen by all trials", ylabel="best FID so far")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3, which="both")
    figure.savefig(file, dpi=120)


def main() -> None:
    """Prints one line of JSON a seed, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--image-size", type=int, default=8)
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    curves = []
    with tempfile.TemporaryDirectory() as storage, quiet(Path(storage, "log")) as screen, cluster():
        for seed in range(asked.seeds):
            random, early = compared(Plan(Path(storage), asked.image_size), seed)
            curves.append((random, early))
            as_good = next((images for images, fid in early if fid <= random[-1][1]), None)
            rows.append(
                {
                    "seed": seed,
                    "random_fid": random[-1][1],
                    "early_fid": early[-1][1],
                    "early_images_share": early[-1][0] / random[-1][0],
                    "share_to_be_as_good": None if as_good is None else as_good / random[-1][0],
                }
            )
            say(screen, json.dumps(rows[-1]))
    if asked.picture:
        draw(asked.picture, curves)
    shares = [row["share_to_be_as_good"] or float("inf") for row in rows]
    print(json.dumps({"median_share_to_be_as_good": statistics.median(shares), "rows": rows}))


if __name__ == "__main__":
    main()
