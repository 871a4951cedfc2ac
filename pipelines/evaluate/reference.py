"""Reference statistics: the driver builds them once and gives them to every worker. The name of their cache file is a
hash of everything they depend on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from gan_core.data.dataset import Dataset
from gan_core.measures import Metrics, is_own, measure_name
from gan_core.metrics.extractors.classifier import Classifier, StackedClassifier
from gan_core.metrics.extractors.dinov2 import SHA256, WEIGHTS, DinoV2, fetched
from gan_core.metrics.extractors.extractor import Extractor, PixelFeatures
from gan_core.metrics.extractors.inception import PUBLISHED_NAME, InceptionV3, fetch_weights, is_published
from gan_core.metrics.scores import check_reference, sample_count, try_own_measure
from gan_core.metrics.statistics.reference import Reference
from gan_core.settings import SettingsError
from infra.files import write_atomic
from infra.locks import alone
from pipelines.console import byte_bar, count_bar, say, working
from pipelines.runs import Mirror, shared_cache
from pipelines.settings import SearchExperiment, TrainExperiment

NEAR_CHANCE = 0.1
"""A classifier is near chance below this share of the way from chance to 1."""


def reference_tags(reference: Reference, key: str, samples: int | None) -> dict[str, str]:
    """Tags for MLflow that say what each FID of a run was measured with."""
    about = {
        **reference.extractor.about(),
        "reference": key[:16],
        "reference_samples": str(reference.count or "unknown"),
        "samples": str(sample_count(samples, reference)),
    }
    return {f"ganfleet.fid.{name}": value for name, value in about.items()}


@dataclass(frozen=True)
class SharedReference:
    """Reference statistics as workers get them, with tags for MLflow and warnings for the user."""

    content: bytes
    tags: dict[str, str]
    warnings: list[str]


def prepare_reference(
    settings: Metrics,
    dataset: Dataset,
    storage: Path,
    console: Console,
    mirror: Mirror | None = None,
    device: str = "auto",
) -> SharedReference:
    """The reference statistics from `<storage>/cache`. If the file is missing or damaged, they are built.

    One process builds, and other processes wait for it. `mirror`: the copy of the cache in S3. Statistics that another
    machine has put there are used, because those built here might differ in their last bits. `device`: `compute.device`
    of the run. Raises SettingsError.
    """
    cache = storage.resolve() / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    settings = with_weights(settings, cache, console)
    try:
        key = Reference.key(settings, dataset)
    except OSError as error:
        raise SettingsError(f"metrics: {error.filename}: {error.strerror}") from None
    file = cache / f"reference-{key[:32]}.safetensors"
    with alone(file, lambda: say(console, f"waiting for another process that makes {file.name}")):
        if mirror is not None:
            with mirror.as_settings_error():
                if mirror.about(file.name) is not None:
                    mirror.download([file.name])
        reference = _cached(file, dataset)
        if reference is None:
            reference = _build(settings, dataset, console, best_device(device))
            write_atomic(file, reference.to_bytes())
        if mirror is not None:
            with mirror.as_settings_error():
                mirror.upload([file])
    counts = {"real": reference.count, "generated": sample_count(settings.samples, reference)}
    found = reference_warnings(reference.extractor, len(reference.target.mean), counts)
    content = replace(reference, content=dataset.content).to_bytes()
    return SharedReference(content, reference_tags(reference, key, settings.samples), found)


def best_device(asked: str = "auto") -> str:
    """The device on which the driver measures: a GPU if there is one, unless `cpu` is asked for."""
    return "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"


def with_weights(settings: Metrics, cache: Path, console: Console) -> Metrics:
    """The settings with a file of published weights, downloaded with `metrics.download`. Raises SettingsError."""
    if settings.extractor == DinoV2.name and settings.weights is None:
        with alone(cache / WEIGHTS, lambda: say(console, f"waiting for another process that fetches {WEIGHTS}")):
            return settings.model_copy(update={"weights": fetched(settings.download, partial(byte_bar, console))})
    if not settings.download or settings.weights is not None:
        return settings
    with alone(
        cache / PUBLISHED_NAME, lambda: say(console, f"waiting for another process that fetches {PUBLISHED_NAME}")
    ):
        try:
            weights = fetch_weights(cache, bars=partial(byte_bar, console))
            return settings.model_copy(update={"weights": weights})
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


def _build(settings: Metrics, dataset: Dataset, console: Console, device: str) -> Reference:
    try:
        return Reference.build(settings, dataset, device, partial(count_bar, console))
    except SettingsError:
        raise
    except ValueError as error:
        given = {"weights": settings.weights, "statistics": settings.statistics}
        named = " ".join(f"metrics.{name}={value}" for name, value in given.items() if value is not None)
        if not named:
            raise SettingsError(str(error)) from None
        without = ", ".join(f"metrics.{name}=null" for name, value in given.items() if value is not None)
        raise SettingsError(f"{named}: {error}", nearest=None if "nearest" in str(error) else without) from None


def reference_of(experiment: TrainExperiment | SearchExperiment, dataset: Dataset, console: Console) -> SharedReference:
    """The reference statistics of a run or search. Prints what FID is measured with, and the warnings.

    Raises SettingsError if another measure cannot be had with them: one of the user's own is called once.
    """
    storage, device = experiment.storage, experiment.compute.device
    with working(console, "reference statistics"):
        found = prepare_reference(experiment.metrics, dataset, storage.folder, console, shared_cache(storage), device)
    _print_reference(console, found)
    named = [("metrics.measures", name) for name in experiment.metrics.measures]
    if isinstance(experiment, SearchExperiment):
        named.insert(0, ("search.metric", experiment.search.metric))
    named = [one for one in named if one[1] != "fid"]
    if named:
        reference = Reference.from_bytes(found.content, dataset).to(best_device(device))
        _try_measures(named, experiment, reference, console)
    return found


def _try_measures(
    named: Sequence[tuple[str, str]],
    experiment: TrainExperiment | SearchExperiment,
    reference: Reference,
    console: Console,
) -> None:
    """Raises SettingsError unless each measure, by the setting that names it, can be had at an evaluation."""
    count = sample_count(experiment.metrics.samples, reference)
    families = experiment.families if isinstance(experiment, SearchExperiment) else [experiment.family]
    for setting, name in named:
        check_reference(setting, name, reference, count)
        if is_own(name):
            with working(console, f"{measure_name(name)} of noise, to try it"):
                for family in {family.needs_labels: family for family in families}.values():
                    try_own_measure(setting, name, family, reference, count)


def _print_reference(console: Console, shared_reference: SharedReference) -> None:
    about = {key.removeprefix("ganfleet.fid."): value for key, value in shared_reference.tags.items()}
    accuracy = about.get("accuracy")
    say(
        console,
        f"FID: {about['extractor']} {about['weights']}"
        + (f" (names {float(accuracy):.1%} of held-out images rightly)" if accuracy else "")
        + f", against {about['reference_samples']} real samples",
    )
    for warning in shared_reference.warnings:
        say(console, f"warning: {warning}")


def reference_warnings(extractor: Extractor, width: int, counts: dict[str, int | None]) -> list[str]:
    """What a reader of an FID must know: too few samples for `width` features, or weights that are not published.

    `counts`: how many real and generated images there are, None if unknown.
    """
    found = []
    or_kid = "" if isinstance(extractor.net, PixelFeatures | Classifier) else ", or KID, which has no such bias"
    for kind, count in counts.items():
        if count is not None and count <= width:
            found.append(
                f"{count} {kind} images for {width} features: the covariance is rank-deficient and FID biased upwards;"
                f" nearest: {width + 1} {kind} images or more{or_kid}"
            )
    net = extractor.net
    chance = 1 / ((net.of_channel if isinstance(net, StackedClassifier) else net.classes) or 1)
    if extractor.accuracy is not None and extractor.accuracy <= chance + NEAR_CHANCE * (1 - chance):
        found.append(
            f"the classifier names {extractor.accuracy:.1%} of held-out images rightly, {chance:.1%} is by chance: its"
            " FID says little; nearest: metrics.extractor=pixels"
        )
    published = extractor.digest == SHA256 if isinstance(extractor.net, DinoV2) else is_published(extractor.digest)
    if isinstance(extractor.net, InceptionV3 | DinoV2) and not published:
        found.append(
            f"{extractor.net.name} {extractor.digest[:16]} are not the published weights: compare with no published FID"
        )
    return found
