"""What each family is shown to be, over several seeds: writes docs/RESULTS.md and its pictures.

    python tests/benchmarks/results.py play [SEEDS [GAME ...]]     # what is missing, two at a time; may be stopped
    python tests/benchmarks/results.py search                      # five families over wide ranges; may be stopped
    python tests/benchmarks/results.py report                      # docs/RESULTS.md from what there is

All of it takes about two and a half hours of two cores. Results are kept in docs/results/, one file a game and seed.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from results_search import DOCS, KEPT, efficiency, overhead, search, searched, table
from results_tracking import tracked
from scipy.stats import spearmanr

HERE = Path(__file__).resolve().parent
SEEDS = 3
AT_ONCE = 2

Found = dict[str, list[dict[str, Any]]]


def play(seeds: int, names: Sequence[str]) -> None:
    """Plays every game and seed that has no result yet, shown as it goes; of all games if none is named."""
    from results_games import PLANS

    missing = [(name, seed) for seed in range(seeds) for name in names or PLANS if not kept(name, seed).exists()]
    print(f"{len(missing)} games to play, {sum(PLANS[name].seconds for name, _ in missing) / 3600:.1f} core-hours")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done, line in enumerate(pool.map(one, missing), start=1):
            print(f"{done}/{len(missing)}  {line}", flush=True)


def one(which: tuple[str, int]) -> str:
    """Plays one game in a process of its own and keeps its result; what came of it in a line."""
    name, seed = which
    folder = KEPT / name
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(HERE / "results_games.py"), name, str(seed), str(folder)]
    threads = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=threads, check=False)
    if done.returncode:
        return f"{name} seed {seed} failed: {done.stderr.strip().splitlines()[-1]}"
    aside = kept(name, seed).with_suffix(".tmp")
    aside.write_text(done.stdout)
    aside.replace(kept(name, seed))
    return f"{name} seed {seed}: FID {json.loads(done.stdout)['fid']:.1f}"


def kept(name: str, seed: int) -> Path:
    """Where a result is."""
    return KEPT / name / f"{seed}.json"


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean, lowest and highest; one number if they are the same."""
    if f"{min(values):.{digits}f}" == f"{max(values):.{digits}f}":
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def correlation(runs: list[dict[str, Any]], loss: str, warm: bool) -> str:
    """Spearman's rank correlation of a logged value with FID over each game, by seed; if `warm`, from where the value
    is highest: before that the critic itself is learning. A dash where that leaves nothing."""
    found = []
    for run in runs:
        values, fids = [row[loss] for row in run["rows"]], [row["fid"] for row in run["rows"]]
        start = values.index(max(values)) if warm else 0
        if len(values) - start < 3:
            return "-"
        found.append(float(spearmanr(values[start:], fids[start:]).statistic))
    return spread(found, 2)


def families(found: Found) -> list[str]:
    """The table of all families on digits."""
    rows = []
    for name, runs in found.items():
        if name.startswith("digits-"):
            asked = (("fid", 1), ("inception_score", 2), ("seconds", 0), ("step", 0))
            numbers = [spread([run[key] for run in runs], digits) for key, digits in asked]
            rows.append([f"`{name[7:]}`", *numbers, settings(runs)])
    return table(("family", "FID", "Inception Score", "core-seconds", "generator updates", "settings"), rows)


def settings(runs: list[dict[str, Any]]) -> str:
    """What differs from the defaults."""
    words = [word.removeprefix("family.") for word in runs[0]["overrides"] if "held_out" not in word]
    return " ".join(words) or "defaults"


def pictures(found: Found, *starts: str) -> list[str]:
    """Samples of the first seed, three games a row."""
    shown = []
    for name in found:
        if name.startswith(starts):
            for file in sorted((KEPT / name).glob("*-0*.png")):
                what = f"{name.removeprefix('digits-')}{' reconstructions' if 'reconstructions' in file.name else ''}"
                shown.append((what, f'<img src="results/{name}/{file.name}" width="270" alt="{what}">'))
    lines = []
    for row in batched(shown, 3):
        cells = [*row, *[("", "")] * (3 - len(row))]
        lines += ["| " + " | ".join(cell[side] for cell in cells) + " |" for side in (0, 1)]
        lines.insert(len(lines) - 1, "|---|---|---|")
        lines.append("")
    return lines


def batched(items: list[tuple[str, str]], size: int) -> list[list[tuple[str, str]]]:
    """In rows of `size`, the last perhaps shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def extras(found: Found) -> list[str]:
    """What the conditional, semi-supervised and encoding families are asked beside FID."""
    asked = {
        "digits-cgan": [("agreement", "share of samples that the classifier gives the asked class")],
        "digits-cwgan_gp": [("agreement", "share of samples that the classifier gives the asked class")],
        "digits-sgan": [
            ("accuracy", "held-out accuracy of the critic, 100 labels"),
            ("accuracy_of_labels_alone", "the same net on these labels alone, its best"),
        ],
        "digits-vae": [
            ("elbo", "bound of log p of held-out digits, nats an image"),
            ("without_z", "of an independent normal distribution of each pixel"),
        ],
        "digits-bigan": [("right_class", "reconstructions whose nearest training image has the right class")],
        "digits-autoencoder": [("right_class", "the same")],
    }
    rows = []
    for name, items in asked.items():
        for key, what in items:
            if name in found:
                rows.append([f"`{name[7:]}`", what, spread([run[key] for run in found[name]], 3)])
    return table(("family", "what", "mean (lowest-highest)"), rows)


def modes(found: Found) -> list[str]:
    """Mixtures: modes covered and share of high quality, by seed."""
    rows = []
    for name, runs in found.items():
        if name.startswith(("ring8", "grid25")):
            numbers = [", ".join(f"{run['modes']:.0f}" for run in runs)]
            numbers.append(", ".join(f"{run['high_quality']:.2f}" for run in runs))
            rows.append([name, *numbers, settings(runs)])
    return table(("game", "modes by seed", "share of high quality by seed", "settings"), rows)


def report() -> None:
    """Writes docs/RESULTS.md."""
    found: Found = {}
    for file in sorted(KEPT.glob("*/*.json")):
        found.setdefault(file.parent.name, []).append(json.loads(file.read_text()))
    seeds = sorted({len(runs) for runs in found.values() if "fid" in runs[0]})
    piles = [
        [name.removeprefix("pile-"), spread([run["at_the_bound"] for run in runs], 3)]
        for name, runs in found.items()
        if name.startswith("pile-")
    ]
    losses = (
        ("estimate-wgan", "wasserstein_estimate"),
        ("estimate-wgan_gp", "wasserstein_estimate"),
        ("estimate-gan", "loss/generator"),
        ("estimate-gan", "loss/critic"),
        ("digits-wgan", "wasserstein_estimate"),
        ("digits-wgan_gp", "wasserstein_estimate"),
    )
    rising = [
        [name, f"`{loss}`", *(correlation(found[name], loss, warm) for warm in (False, True)), settings(found[name])]
        for name, loss in losses
        if name in found
    ]
    text = [
        "# Results",
        "",
        f"Written by `tests/benchmarks/results.py`; seeds a row: {seeds[0]} to {seeds[-1]}. Numbers are means over"
        " seeds, with the lowest and highest. FID and Inception Score are of the digits' own classifier: 1,438 samples"
        " against the 1,438 digits trained on. One half of the real digits against the other scores about 16.",
        "",
        "## Every family on digits, 16x16, for three minutes of two cores",
        "",
        "360 core-seconds of training a game, one thread each; evaluations are not counted.",
        "",
        *families(found),
        "",
        *pictures(found, "digits-"),
        "## What else they are asked",
        "",
        *extras(found),
        "",
        "## Mode coverage",
        "",
        "25 modes or 8; a sample within 3 standard deviations of a mode is of high quality.",
        "",
        *modes(found),
        "",
        *pictures(found, "ring8", "grid25"),
        "## Does the loss tell what FID tells?",
        "",
        "Spearman's rank correlation with FID over 12 evaluations (the value is its mean over all rounds since the one"
        " before): 1 if they fall together. Over the whole run, and from the highest value on: at first a critic must"
        " learn the distance that it then measures. The runs `estimate-` are of 60 core-seconds, while FID falls fast;"
        " those of 360 show what is left once it falls slowly.",
        "",
        *table(("run", "value", "correlation", "from its highest on", "settings"), rising),
        "",
        "## Weights at the bound",
        "",
        "Share of the critic's weights within 1% of c (of the largest weight, where none is clipped).",
        "",
        *table(("game", "share"), piles),
        "",
        *searched(),
        *efficiency(),
        *overhead(),
        *tracked(),
    ]
    (DOCS / "RESULTS.md").write_text("\n".join(text))
    print(DOCS / "RESULTS.md")


if __name__ == "__main__":
    if sys.argv[1:2] == ["play"]:
        play(int(sys.argv[2]) if len(sys.argv) > 2 else SEEDS, sys.argv[3:])
    elif sys.argv[1:] == ["search"]:
        search()
    elif sys.argv[1:] == ["report"]:
        report()
    else:
        sys.exit(__doc__)
