"""The games of `results.py`, one process each: plays until its core-seconds are spent, prints one JSON object.

python tests/benchmarks/results_games.py GAME SEED FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from gan_core import data, streams
from gan_core.data.dataset import Dataset
from gan_core.experiment import Experiment
from gan_core.loop import Game, rounds
from gan_core.measures import Metrics
from gan_core.metrics.memorisation import nearest_neighbours
from gan_core.metrics.scores import pair_scores, sample_range, scores
from gan_core.metrics.statistics.reference import Reference
from pipelines.evaluate.drawing import Drawing, drawn_batches
from pipelines.evaluate.pictures import game_picture, pairs_picture, png

LOOKS = 12
"""Evaluations over a game; the losses logged with each are means over all rounds since the one before."""


@dataclass(frozen=True)
class Plan:
    """One game: its settings, core-seconds of training, and what is measured at its end beside FID."""

    family: str
    overrides: tuple[str, ...]
    seconds: float
    extra: Callable[[Game, Dataset, Reference], Mapping[str, float]] | None = None


def agreement(game: Game, dataset: Dataset, reference: Reference) -> dict[str, float]:
    """Share of 2,000 samples that a classifier of the real data gives the class asked for."""
    labels = streams.labels_of(0, 2000, game.classes, game.device)
    logits = reference.extractor(sample_range(game, 0, 2000).float())[1]
    assert logits is not None
    return {"agreement": float((logits.argmax(1) == labels).double().mean())}


def accuracy(game: Game, dataset: Dataset, reference: Reference) -> dict[str, float]:
    """Of the semi-supervised critic on held-out images, and of the same net trained on its 100 labels alone.

    The latter is given every advantage: its best accuracy on the held-out images over 2,000 steps.
    """
    assert dataset.held_out is not None
    assert dataset.held_out_labels is not None
    held_out, wanted = dataset.held_out.to(game.dtype), dataset.held_out_labels
    known = streams.hide_labels(game.experiment.seed, dataset.labels, game.labelled or 0) >= 0
    images, labels = dataset.images[known].to(game.dtype), dataset.labels[known]
    rival = Game(game.experiment, game.shape, game.device, game.classes)
    net = rival.current["classifier"].train().requires_grad_(True)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    best = 0.0
    for step in range(2000):
        chosen = torch.randint(len(images), (64,), generator=streams.seeded("cpu", "rival", step))
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(net(images[chosen]), labels[chosen]).backward()
        optimizer.step()
        if step % 50 == 49:
            with torch.no_grad():
                best = max(best, float((net.eval()(held_out).argmax(1) == wanted).double().mean()))
            net.train()
    found = float((game.classify(held_out).argmax(1) == wanted).double().mean())
    return {"accuracy": found, "accuracy_of_labels_alone": best, "labels": float(known.sum())}


def likelihood(game: Game, dataset: Dataset, reference: Reference) -> dict[str, float]:
    """Bounds of log p of held-out images in nats an image, and of a model without z; both of dequantised images."""
    from gan_core.metrics.elbo import dequantised, independent_gaussian, log_likelihood_bound

    assert dataset.held_out is not None
    held_out, train = dequantised(dataset.held_out, 0), dequantised(dataset.images, 1)
    bound = log_likelihood_bound(game, held_out.to(game.dtype), samples=1)
    return {"elbo": float(bound.double().mean()), "without_z": float(independent_gaussian(train, held_out).mean())}


def reconstructions(game: Game, dataset: Dataset, reference: Reference) -> dict[str, float]:
    """Share of held-out images whose reconstruction's nearest training image has their class; chance is 0.1."""
    assert dataset.held_out is not None
    assert dataset.held_out_labels is not None
    again = game.sample(game.encode(dataset.held_out.to(game.dtype))).float()
    _, nearest = nearest_neighbours(again.flatten(1), dataset.images.flatten(1))
    right = dataset.labels[nearest] == dataset.held_out_labels
    return {"right_class": float(right.double().mean())}


def piled(game: Game, dataset: Dataset, reference: Reference) -> dict[str, float]:
    """Share of the critic's weights within 1% of the largest one's magnitude, which is c where they are clipped."""
    weights = torch.cat([weight.detach().abs().flatten() for weight in game.players["critic"].net.parameters()])
    bound = float(getattr(game.experiment.family, "clip", weights.max()))
    return {"at_the_bound": float((weights >= 0.99 * bound).double().mean())}


def truncated(game: Game, dataset: Dataset, reference: Reference) -> dict[str, float]:
    """Precision and recall of 2,000 samples as they are, and as `ganfleet sample --truncation` draws them."""
    real = reference.with_features().features
    assert real is not None
    found: dict[str, float] = {}
    for limit in (None, 0.7, 0.5):
        drawn = drawn_batches(game, Drawing(truncation=limit), 0, 2000)
        fake = torch.cat([reference.extractor.features(batch.float()) for batch in drawn])
        of = "" if limit is None else f"_at_{limit:g}"
        shares = pair_scores(real[:2000], fake.cpu(), ("precision", "recall"))
        found |= {f"{name}{of}": share for name, share in shares.items()}
    return found


def agreement_and_truncated(game: Game, dataset: Dataset, reference: Reference) -> dict[str, float]:
    """Both, for a family that is asked for a class."""
    return {**agreement(game, dataset, reference), **truncated(game, dataset, reference)}


HALF = "data.held_out=0.2"
NOISE = ("family.instance_noise=0.3", "family.noise_rounds=20000")
RING = (
    *("data.name=ring8", "data.batch_size=128", "family.ema=0.998"),
    *("family.width=128", "family.critic_width=128", "family.latent=256"),
)
GRID = (
    *("data.name=grid25", "data.batch_size=256", "family.net=mlp", "family.lr=1e-3", "family.beta1=0.5"),
    *("family.gp_lambda=0.1", "family.width=8", "family.latent=2"),
)
STYLE = ("family.width=16", "family.channel_max=64", "family.latent=64", "data.batch_size=32")
BIGGAN = ("family.width=16", "family.lr=1e-3", "family.critic_lr=1e-3")
CORE_SECONDS = 360.0
"""Three minutes of two cores."""
RING_SECONDS = 180.0

PLANS: dict[str, Plan] = {
    "digits-gan": Plan("gan", (HALF, *NOISE, "family.lr=5e-4"), CORE_SECONDS),
    "digits-dcgan": Plan("dcgan", (HALF, *NOISE), CORE_SECONDS),
    "digits-wgan": Plan("wgan", (HALF, "family.lr=5e-4", "family.clip=0.05"), CORE_SECONDS),
    "digits-wgan_gp": Plan("wgan_gp", (HALF, "family.lr=5e-4", "family.beta1=0.5", "family.n_critic=3"), CORE_SECONDS),
    "digits-began": Plan("began", (HALF, "data.batch_size=32"), CORE_SECONDS),
    "digits-cgan": Plan("cgan", (HALF, *NOISE), CORE_SECONDS, agreement),
    "digits-cwgan_gp": Plan(
        "cwgan_gp", (HALF, "family.lr=5e-4", "family.beta1=0.5", "family.n_critic=3"), CORE_SECONDS, agreement
    ),
    "digits-biggan": Plan("biggan", (HALF, *BIGGAN), CORE_SECONDS, agreement_and_truncated),
    "digits-autoencoder": Plan("autoencoder", (HALF,), CORE_SECONDS, reconstructions),
    "digits-vae": Plan("vae", (HALF, "family.kl_weight=10"), CORE_SECONDS, likelihood),
    "digits-sgan": Plan("sgan", (HALF, *NOISE), CORE_SECONDS, accuracy),
    "digits-bigan": Plan("bigan", (HALF,), CORE_SECONDS, reconstructions),
    "digits-stylegan2": Plan("stylegan2", (HALF, *STYLE), CORE_SECONDS, truncated),
    "clothes-stylegan2": Plan(
        "stylegan2", ("data.name=fashion_mnist", "data.image_size=32", *STYLE), 5 * CORE_SECONDS, truncated
    ),
    "photos-stylegan2": Plan(
        "stylegan2", ("data.name=photos", "data.image_size=32", *STYLE), 5 * CORE_SECONDS, truncated
    ),
    "clothes-biggan": Plan(
        "biggan",
        ("data.name=fashion_mnist", "data.image_size=32", *BIGGAN),
        5 * CORE_SECONDS,
        agreement_and_truncated,
    ),
    "photos-biggan": Plan(
        "biggan", ("data.name=photos", "data.image_size=32", *BIGGAN), 5 * CORE_SECONDS, agreement_and_truncated
    ),
    "grid25-wgan_gp": Plan("wgan_gp", GRID, CORE_SECONDS),
    "ring8-gan": Plan("gan", (*RING, "family.lr=2e-3", "family.critic_lr=2e-4"), 40.0),
    "ring8-gan-unrolled": Plan(
        "gan", (*RING, "family.lr=2e-3", "family.critic_lr=2e-4", "family.unrolled=3"), RING_SECONDS
    ),
    "ring8-gan-minibatch": Plan(
        "gan", (*RING, "family.lr=1e-3", "family.critic_lr=4e-4", "family.minibatch_features=8"), RING_SECONDS
    ),
    "pile-wgan-small": Plan("wgan", ("family.clip=1e-3", "family.lr=5e-4"), 60.0, piled),
    "pile-wgan-paper": Plan("wgan", ("family.clip=1e-2", "family.lr=5e-4"), 60.0, piled),
    "pile-wgan_gp": Plan("wgan_gp", ("family.lr=5e-4",), 60.0, piled),
    "estimate-wgan": Plan("wgan", ("family.lr=5e-4", "family.clip=0.02"), 60.0),
    "estimate-wgan_gp": Plan("wgan_gp", ("family.beta1=0.5",), 60.0),
    "estimate-gan": Plan("gan", ("family.lr=5e-4",), 60.0),
}


def play(plan: Plan, seed: int, folder: Path) -> dict[str, Any]:
    """Plays the plan and measures it. Evaluations are not counted into its core-seconds."""
    words = ("budget.rounds=100000000", f"seed={seed}", *plan.overrides)
    experiment = Experiment.load({"family": {"name": plan.family}}).override(*words)
    dataset = data.load(experiment.data)
    reference = Reference.build(Metrics(), dataset)
    game = Game(experiment, dataset.shape, classes=dataset.classes)
    rows: list[dict[str, float]] = []
    since: list[dict[str, float]] = []  # the scalars of each round since the last evaluation
    spent, began = 0.0, time.process_time()
    for turn in rounds(game, dataset.images, dataset.labels):
        since.append(turn.scalars())
        used = spent + time.process_time() - began
        if used < plan.seconds * (len(rows) + 1) / LOOKS:
            continue
        means = {name: sum(row[name] for row in since) / len(since) for name in since[-1]}
        rows.append({"seconds": used, "step": turn.step, **means, **scores(game, reference)})
        since.clear()
        if len(rows) == LOOKS:
            break
        spent, began = used, time.process_time()
    picture = folder / f"{experiment.family.name}-{seed}.png"
    picture.write_bytes(png(game_picture(game, dataset)))
    found = {"rows": rows, "overrides": list(plan.overrides), "images_seen": game.images_seen, **rows[-1]}
    if "encoder" in game.averages and dataset.held_out is not None:
        real = dataset.held_out[:16].to(game.dtype)
        pairs = png(pairs_picture(real, game.sample(game.encode(real))))
        (folder / f"{experiment.family.name}-{seed}-reconstructions.png").write_bytes(pairs)
    return {**found, **(plan.extra(game, dataset, reference) if plan.extra else {})}


if __name__ == "__main__":
    torch.set_num_threads(1)
    name, seed, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    print(json.dumps(play(PLANS[name], seed, folder)))
