"""The measures of a game while it is played: every rank scores its share, all get the same numbers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gan_core import ranks, streams
from gan_core.data.dataset import Modes
from gan_core.loop import Game
from gan_core.metrics.coverage import mode_coverage
from gan_core.metrics.fid import frechet_distance
from gan_core.metrics.statistics.reference import Reference, batch_of
from gan_core.metrics.statistics.tally import Tally

DEFAULT_SAMPLES = 10_000
"""Generated samples per evaluation against published statistics, which do not say how many they are of."""


def sample_count(asked: int | None, reference: Reference) -> int:
    """Samples of one evaluation: as many as the reference is of, unless told otherwise."""
    return asked or reference.count or DEFAULT_SAMPLES


def scores(game: Game, reference: Reference) -> dict[str, float]:
    """FID of the game's averaged generator, and what comes with the same samples at no further cost: variety, the
    total variance of their features in units of the real ones'; Inception Score where the extractor names classes;
    modes found and the share of high quality for mixtures.

    Raises ValueError if a feature is not finite.
    """
    count = sample_count(game.experiment.metrics.samples, reference)
    tally, points, problem = Tally(reference.extractor, count), [], ""
    try:
        for start, stop in rank_batches(count, batch_of(game.shape)):
            part = sample_range(game, start, stop)
            tally.add(part, start)
            points += [] if reference.modes is None else [part]
    except ValueError as error:
        problem = str(error)
    if float(ranks.total(torch.tensor(float(bool(problem)), device=game.device))):
        raise ValueError(problem or "another worker's features are not finite")
    whole = tally.over_ranks(len(reference.target.mean), game.device)
    assert whole.moments is not None
    found = {"fid": frechet_distance(reference.target, whole.moments.gaussian)}
    real_variance = float(reference.target.covariance.trace())
    if real_variance > 0:
        found["variety"] = float(whole.moments.gaussian.covariance.trace()) / real_variance
    score = whole.inception_score()
    if score is not None:
        found["inception_score"] = score.mean
    if reference.modes is not None:
        found |= _modes_found(reference.modes, points, count, game)
    return found


def rank_batches(count: int, batch: int) -> Iterator[tuple[int, int]]:
    """This rank's batches (start, stop) of `count` samples. Batches are cut the same for any world size, so that
    each sample and feature has the same bits."""
    starts = range(0, count, batch)
    for start in starts[ranks.rank() :: ranks.world_size()]:
        yield start, min(start + batch, count)


def sample_range(game: Game, start: int, stop: int, purpose: str = "evaluation") -> Tensor:
    """Samples start .. stop of an endless fixed sequence, the same for any batch or world size; of a conditional
    family, of each class in turn."""
    # Drawn on the CPU: a GPU has another sequence, and other samples would be measured there.
    latent, cpu = game.experiment.family.latent, torch.device("cpu")
    z = streams.latents(game.experiment.seed, purpose, start, stop, latent, cpu, game.dtype)
    labels = streams.labels_of(start, stop, game.classes, game.device) if game.conditional else None
    return game.sample(z.to(game.device), labels)


def _modes_found(modes: Modes, points: list[Tensor], count: int, game: Game) -> dict[str, float]:
    """Of this rank's points, summed over ranks."""
    centres = modes.centres.to(game.device, game.dtype)
    hits = torch.zeros(len(centres), dtype=torch.float64, device=game.device)
    if points:
        hits += mode_coverage(torch.cat(points), centres, modes.sigma).per_mode
    hits = ranks.total(hits)
    return {"modes": float((hits > 0).sum()), "high_quality": float(hits.sum()) / count}
