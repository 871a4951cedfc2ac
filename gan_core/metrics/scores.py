"""The measures of a game in training. Every rank measures a share of the samples; all get the same numbers."""

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

MOST_SAMPLES = 10_000
"""Generated samples per evaluation, unless the settings say more. A set of many images would be measured for longer
than the game is played between two evaluations."""


def sample_count(asked: int | None, reference: Reference) -> int:
    """Number of samples of one evaluation: `asked`, else as many as the reference statistics are of, up to
    `MOST_SAMPLES`."""
    return asked or min(reference.count or MOST_SAMPLES, MOST_SAMPLES)


def scores(game: Game, reference: Reference) -> dict[str, float]:
    """FID of the game's averaged generator, and other measures of the same samples.

    `variety`: the total variance of their features divided by that of the real ones. `inception_score`: if the
    extractor classifies. `modes` and `high_quality`: for mixtures. Raises ValueError if a feature is not finite.
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
    """This rank's batches (start, stop) of `count` samples. Batches do not depend on the number of ranks, so that each
    sample and feature has the same bits."""
    starts = range(0, count, batch)
    for start in starts[ranks.rank() :: ranks.world_size()]:
        yield start, min(start + batch, count)


def sample_range(game: Game, start: int, stop: int, purpose: str = "evaluation") -> Tensor:
    """Samples start .. stop of an endless fixed sequence, which does not depend on batches or ranks.

    A conditional family cycles through the classes.
    """
    # z is drawn on the CPU, because a GPU's random sequence is another one.
    latent, cpu = game.experiment.family.latent, torch.device("cpu")
    z = streams.latents(game.experiment.seed, purpose, start, stop, latent, cpu, game.dtype)
    labels = streams.labels_of(start, stop, game.classes, game.device) if game.conditional else None
    return game.sample(z.to(game.device), labels)


def _modes_found(modes: Modes, points: list[Tensor], count: int, game: Game) -> dict[str, float]:
    """Mode coverage of all ranks' points; `points` are this rank's."""
    centres = modes.centres.to(game.device, game.dtype)
    hits = torch.zeros(len(centres), dtype=torch.float64, device=game.device)
    if points:
        hits += mode_coverage(torch.cat(points), centres, modes.sigma).per_mode
    hits = ranks.total(hits)
    return {"modes": float((hits > 0).sum()), "high_quality": float(hits.sum()) / count}
