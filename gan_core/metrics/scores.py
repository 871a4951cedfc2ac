"""The measures of a game in training. Every rank measures a share of the samples; all get the same numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence

import torch
from torch import Tensor

from gan_core import ranks, streams
from gan_core.data.byte_images import to_bytes
from gan_core.data.dataset import Modes
from gan_core.family import Family
from gan_core.loop import Game
from gan_core.measures import FEWEST, OF_PAIRS, is_own, measure_name, own_measure
from gan_core.metrics.coverage import class_coverage, mode_coverage
from gan_core.metrics.fid import frechet_distance
from gan_core.metrics.pairs.kid import kid
from gan_core.metrics.pairs.precision_recall import precision_recall
from gan_core.metrics.statistics.reference import Reference, batch_of
from gan_core.metrics.statistics.tally import KEPT, Tally
from gan_core.nets.check import without_memory
from gan_core.settings import SettingsError

MOST_SAMPLES = 10_000
"""Generated samples per evaluation, unless the settings say more. A set of many images would be measured for longer
than the game is played between two evaluations."""


def sample_count(asked: int | None, reference: Reference) -> int:
    """Number of samples of one evaluation: `asked`, else as many as the reference statistics are of, up to
    `MOST_SAMPLES`."""
    return asked or min(reference.count or MOST_SAMPLES, MOST_SAMPLES)


SUBSETS, SUBSET_SIZE = 100, 1000  # of KID, as published
NEIGHBOUR, NEIGHBOUR_OF_DENSITY = 3, 5  # of precision and recall, of density and coverage, as published


class MeasureError(ValueError):
    """A measure cannot be computed."""

    def __init__(self, measure: str, why: str) -> None:
        """`measure`: its name in rows."""
        super().__init__(measure, why)
        self.measure, self.why = measure, why

    def __str__(self) -> str:
        return self.why


def scores(game: Game, reference: Reference) -> dict[str, float]:
    """FID of the game's averaged generator, and other measures of the same samples.

    `variety`: the total variance of their features divided by that of the real ones. `inception_score`: if the
    extractor classifies. `modes` and `high_quality`: for mixtures; `modes` and `modes_kl`: for stacks. Then those that
    `metrics.measures` names: of pairs, for which the reference needs `with_features()` on rank 0, and of one's own,
    which rank 0 computes.

    Raises ValueError if a feature is not finite, MeasureError if another measure cannot be computed.
    """
    count, measures = sample_count(game.experiment.metrics.samples, reference), game.experiment.metrics.measures
    of_pairs = [name for name in measures if name in OF_PAIRS]
    own = [path for path in measures if is_own(path)]
    tally, points, problem = Tally(reference.extractor, count, KEPT if of_pairs else 0), [], ""
    kind = torch.uint8 if len(game.shape) == 3 else torch.float32
    drawn = torch.zeros(count if own else 0, *game.shape, dtype=kind, device=game.device)
    try:
        for start, stop in rank_batches(count, batch_of(game.shape)):
            part = sample_range(game, start, stop)
            tally.add(part, start)
            points += [] if reference.modes is None else [part]
            if own:
                drawn[start:stop] = as_given(part)
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
    if whole.hits is not None:
        modes, divergence = class_coverage(whole.hits)
        found |= {"modes": float(modes), "modes_kl": divergence}
    if of_pairs:
        found |= _of_first_rank(of_pairs, game, lambda: _of_pairs(of_pairs, reference, whole.features(), game))
    if own:
        drawn = ranks.total(drawn)
        found |= _of_first_rank(list(map(measure_name, own)), game, lambda: own_scores(own, reference, drawn, game))
    return found


def pair_scores(real: Tensor, fake: Tensor, wanted: Collection[str]) -> dict[str, float]:
    """The wanted ones of `kid` (with `kid_std`), `precision`, `recall`, `density` and `coverage`, of features (N, D)
    and (M, D). Raises ValueError for too few."""
    found: dict[str, float] = {}
    if "kid" in wanted:
        distance = kid(real, fake, SUBSETS, min(SUBSET_SIZE, len(real), len(fake)))
        found |= {"kid": distance.mean, "kid_std": distance.std}
    for neighbour, names in ((NEIGHBOUR, ("precision", "recall")), (NEIGHBOUR_OF_DENSITY, ("density", "coverage"))):
        asked = [name for name in names if name in wanted]
        if asked:
            shares = precision_recall(real, fake, neighbour)
            found |= {name: getattr(shares, name) for name in asked}
    return found


def as_given(samples: Tensor) -> Tensor:
    """Samples as a measure of one's own gets them: images (N, C, H, W) in [-1, 1] as bytes, points as they are."""
    if samples.dim() != 4:
        return samples.float()
    return to_bytes(samples)


def real_samples(images: Tensor, count: int, device: torch.device) -> Tensor:
    """At most `count` of the real images (M, *shape) as a measure of one's own gets them, chosen by a fixed seed."""
    chosen = torch.randperm(len(images), generator=streams.seeded("cpu", "real samples"))[:count].sort().values
    batches = chosen.to(images.device).split(batch_of(tuple(images.shape[1:])))
    return torch.cat([as_given(images[rows]) for rows in batches]).to(device)


def own_score(setting: str, path: str, seed: int, images: Tensor, labels: Tensor | None, real: Tensor) -> float:
    """The value of a function of one's own. What it draws from torch's global generators follows from the seed, and
    leaves them as they were. Raises MeasureError if it raises, or returns no number."""
    function, name = own_measure(setting, path), measure_name(path)
    gpus = [images.device] if images.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        try:
            found = function(images, labels, real)
        except Exception as error:  # a user's function may raise anything
            raise MeasureError(name, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    try:
        if isinstance(found, str | bytes):
            raise TypeError
        value = float(found)
    except (TypeError, ValueError, RuntimeError):
        raise MeasureError(name, f"it returns {type(found).__name__}, no number") from None
    if math.isnan(value):
        raise MeasureError(name, "it returns NaN, which ranks nothing")
    return value


def own_scores(paths: Sequence[str], reference: Reference, images: Tensor, game: Game) -> dict[str, float]:
    """The functions of one's own at these places, of generated images as they get them. Raises MeasureError."""
    assert reference.images is not None
    count, seed = len(images), game.experiment.seed
    labels = streams.labels_of(0, count, game.classes, game.device) if game.conditional else None
    real = real_samples(reference.images, count, game.device)
    found = {}
    for path in paths:
        given = images.clone(), None if labels is None else labels.clone(), real.clone()  # which it may change
        found[measure_name(path)] = own_score("metrics.measures", path, seed, *given)
    return found


def try_own_measure(setting: str, path: str, family: Family, reference: Reference, count: int) -> None:
    """Calls a function of one's own once, on noise in place of generated images, as each evaluation will. Raises
    SettingsError if it raises, or returns no number."""
    assert reference.images is not None
    device = torch.device(reference.extractor.device)
    noise = torch.rand(count, *reference.shape, generator=streams.seeded("cpu", "noise")) * 2 - 1
    labels = streams.labels_of(0, count, reference.classes, device) if _is_conditional(family, reference) else None
    real = real_samples(reference.images, count, device)
    try:
        own_score(setting, path, 0, as_given(noise).to(device), labels, real)
    except MeasureError as error:
        raise SettingsError(f"{setting}={path} on noise: {error}", nearest="a function that returns a float") from None


def _is_conditional(family: Family, reference: Reference) -> bool:
    try:
        with without_memory():
            return family.recipe(reference.shape, reference.classes).conditional
    except Exception:  # a family of one's own may need memory
        return family.needs_labels


def check_reference(setting: str, name: str, reference: Reference, samples: int) -> None:
    """Raises SettingsError if a measure cannot be had with this extractor, or of so few real images or samples."""
    net, fewest = reference.extractor.net, FEWEST.get(name, 2)
    if name == "inception_score" and net.classes is None:
        raise SettingsError(f"{setting}={name}: {net.name} does not classify", "metrics.extractor=inception-v3")
    if name in FEWEST and samples < fewest:
        raise SettingsError(f"{setting}={name} takes more than {samples} samples", f"metrics.samples={fewest}")
    if name in OF_PAIRS and (reference.count or 0) < fewest:
        raise SettingsError(f"{setting}={name} takes more than {reference.count} real images", f"{fewest} or more")


def _of_first_rank(names: Sequence[str], game: Game, compute: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The values that rank 0 computes, the same on all ranks. Raises MeasureError on all of them."""
    values, problem = dict.fromkeys(names, 0.0), None
    if ranks.rank() == 0:
        try:
            values = compute()
        except MeasureError as error:
            problem = error
    sent = [*(values[name] for name in names), float(problem is not None)]
    *shared, failed = ranks.total(torch.tensor(sent, dtype=torch.float64, device=game.device)).tolist()
    if failed:
        raise problem or MeasureError(names[0], "it failed on the first worker")
    return dict(zip(names, shared, strict=True))


def _of_pairs(names: Sequence[str], reference: Reference, fake: Tensor, game: Game) -> dict[str, float]:
    assert reference.features is not None, "rank 0 needs Reference.with_features()"
    try:
        return pair_scores(reference.features.to(game.device), fake.to(game.device), names)
    except ValueError as error:
        raise MeasureError(names[0], str(error)) from None


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
    family, cpu = game.experiment.family, torch.device("cpu")
    z = streams.latents(game.experiment.seed, purpose, start, stop, family.latent, cpu, game.dtype, family.z)
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
