"""The driver's one reference: trained once, cached under a hash of all it depends on, handed to every worker."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from gan_core import data
from gan_core.experiment import Data, Metrics
from gan_core.metrics.reference import Reference
from gan_core.settings import SettingsError
from infra.files import write_atomic
from pipelines.screen import say


def reference_tags(reference: Reference, key: str) -> dict[str, str]:
    """What a FID was measured with, for MLflow: no number without its yardstick."""
    extractor = reference.extractor
    accuracy = {} if extractor.accuracy is None else {"ganfleet.fid.accuracy": f"{extractor.accuracy:.4f}"}
    return {
        "ganfleet.fid.extractor": extractor.net.name,
        "ganfleet.fid.weights": extractor.digest[:16],
        "ganfleet.fid.reference": key[:16],
        "ganfleet.fid.reference_samples": str(reference.moments.count),
        **accuracy,
    }


def obtain_reference(settings: Metrics, source: Data, storage: Path) -> tuple[bytes, dict[str, str]]:
    """The reference's bytes from `<storage>/cache`, or built now, and its tags. A damaged file is made anew."""
    dataset = data.load(source)
    try:
        key = Reference.key(settings, dataset)
    except OSError as error:
        raise SettingsError(f"metrics.weights={settings.weights}: {error.strerror}") from None
    cache = storage.resolve() / "cache" / f"reference-{key[:32]}.safetensors"
    if cache.is_file():
        content = cache.read_bytes()
        try:
            return content, reference_tags(Reference.from_bytes(content, dataset), key)
        except ValueError:
            cache.unlink()
    try:
        reference = Reference.build(settings, dataset)
    except ValueError as error:
        raise SettingsError(f"metrics.weights={settings.weights}: {error}; nearest: metrics.weights=null") from None
    cache.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(cache, reference.to_bytes())
    return reference.to_bytes(), reference_tags(reference, key)


def say_reference(console: Console, about: dict[str, str]) -> None:
    """One line: what FID is measured with."""
    accuracy = about.get("ganfleet.fid.accuracy")
    say(
        console,
        f"FID: {about['ganfleet.fid.extractor']} {about['ganfleet.fid.weights']}"
        + (f" (names {float(accuracy):.1%} of held-out images rightly)" if accuracy else "")
        + f", against {about['ganfleet.fid.reference_samples']} real samples",
    )
