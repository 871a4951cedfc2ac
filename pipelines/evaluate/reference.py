"""The driver's one reference: made once, cached under a hash of all it depends on, handed to every worker."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from gan_core import data
from gan_core.data.dataset import Dataset
from gan_core.experiment import Data, Metrics
from gan_core.metrics.extractors.extractor import Classifier, Extractor, Pixels
from gan_core.metrics.extractors.inception import PUBLISHED_NAME, InceptionV3, fetch_weights, is_published
from gan_core.metrics.scores import sample_count
from gan_core.metrics.statistics.reference import Reference
from gan_core.settings import SettingsError
from infra.files import alone, write_atomic
from pipelines.console import counted, say
from pipelines.runs import Mirror


def reference_tags(reference: Reference, key: str, samples: int | None) -> dict[str, str]:
    """What a FID was measured with, for MLflow: no number without its yardstick."""
    about = {
        **reference.extractor.about(),
        "reference": key[:16],
        "reference_samples": str(reference.count or "unknown"),
    }
    about["samples"] = str(sample_count(samples, reference))
    return {f"ganfleet.fid.{name}": value for name, value in about.items()}


@dataclass(frozen=True)
class Yardstick:
    """A reference as workers get it, and what people are told of it."""

    content: bytes
    tags: dict[str, str]
    doubts: list[str]


def obtain_reference(
    settings: Metrics, source: Data, storage: Path, console: Console, shared: Mirror | None = None
) -> Yardstick:
    """The reference from `<storage>/cache`, or built now.

    Of several processes that ask at once, one builds. A damaged file is made anew. `shared`: where that folder is kept,
    if not there: what another machine has built is not built again, for it might differ in its last bits. Raises
    SettingsError.
    """
    dataset = data.load(source)
    cache = storage.resolve() / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    settings = with_weights(settings, cache, console)
    try:
        key = Reference.key(settings, dataset)
    except OSError as error:
        raise SettingsError(f"metrics: {error.filename}: {error.strerror}") from None
    file = cache / f"reference-{key[:32]}.safetensors"
    with alone(file, lambda: say(console, f"waiting for another process that makes {file.name}")):
        _share(shared, file, fetch=True)
        reference = _cached(file, dataset)
        if reference is None:
            reference = _built(settings, dataset, console)
            write_atomic(file, reference.to_bytes())
        _share(shared, file, fetch=False)
    counts = {"real": reference.count, "generated": settings.samples or reference.count}
    found = doubts(reference.extractor, len(reference.target.mean), counts)
    return Yardstick(reference.to_bytes(), reference_tags(reference, key, settings.samples), found)


def _share(shared: Mirror | None, file: Path, fetch: bool) -> None:
    if shared is None:
        return
    with shared.told():
        if not fetch:
            shared.put([file])
        elif shared.about(file.name) is not None:
            shared.get([file.name])


def best_device() -> str:
    """Where a command of one process measures."""
    return "cuda" if torch.cuda.is_available() else "cpu"


class _Fetched:
    """Says every ten megabytes how far a download is."""

    def __init__(self, console: Console) -> None:
        self._console, self._told = console, 0

    def __call__(self, done: int, total: int) -> None:
        if done - self._told >= 10_000_000 or done == total:
            self._told = done
            say(self._console, f"{PUBLISHED_NAME}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")


def with_weights(settings: Metrics, cache: Path, console: Console) -> Metrics:
    """The settings with Inception's weights at hand, fetched if they are to be. Raises SettingsError."""
    if not settings.download or settings.weights is not None:
        return settings
    with alone(
        cache / PUBLISHED_NAME, lambda: say(console, f"waiting for another process that fetches {PUBLISHED_NAME}")
    ):
        try:
            return settings.model_copy(update={"weights": fetch_weights(cache, progress=_Fetched(console))})
        except ValueError as error:
            raise SettingsError(f"metrics.download=true: {error}") from None


def _cached(file: Path, dataset: Dataset) -> Reference | None:
    if not file.is_file():
        return None
    try:
        return Reference.from_bytes(file.read_bytes(), dataset)
    except ValueError:
        file.unlink()
        return None


def _built(settings: Metrics, dataset: Dataset, console: Console) -> Reference:
    try:
        return Reference.build(settings, dataset, watch=partial(counted, console, "reference"), device=best_device())
    except SettingsError:
        raise
    except ValueError as error:
        given = {"weights": settings.weights, "statistics": settings.statistics}
        named = " ".join(f"metrics.{name}={value}" for name, value in given.items() if value is not None)
        right = (
            ""
            if "nearest" in str(error)
            else "; nearest: " + ", ".join(f"metrics.{name}=null" for name, value in given.items() if value is not None)
        )
        raise SettingsError(f"{named}: {error}{right}" if named else str(error)) from None


def _unbiased(extractor: Extractor) -> str:
    return "" if isinstance(extractor.net, Pixels | Classifier) else ", or KID, which has no such bias"


def say_reference(console: Console, yardstick: Yardstick) -> None:
    """What FID is measured with, and what is doubtful about that."""
    about = {key.removeprefix("ganfleet.fid."): value for key, value in yardstick.tags.items()}
    accuracy = about.get("accuracy")
    say(
        console,
        f"FID: {about['extractor']} {about['weights']}"
        + (f" (names {float(accuracy):.1%} of held-out images rightly)" if accuracy else "")
        + f", against {about['reference_samples']} real samples",
    )
    for doubt in yardstick.doubts:
        say(console, f"warning: {doubt}")


def doubts(extractor: Extractor, width: int, counts: dict[str, int | None]) -> list[str]:
    """What a reader of an FID must know: too few samples for its features' width, weights that are not published.

    `counts`: samples of each side, None if unknown.
    """
    found = []
    for side, count in counts.items():
        if count is not None and count <= width:
            found.append(
                f"{count} {side} images for {width} features: the covariance is rank-deficient and FID biased upwards;"
                f" nearest: {width + 1} {side} images or more{_unbiased(extractor)}"
            )
    if isinstance(extractor.net, InceptionV3) and not is_published(extractor.digest):
        found.append(
            f"inception-v3 {extractor.digest[:16]} are not the published weights: compare with no published FID"
        )
    return found
