"""`ganfleet sensitivity`: how an extractor's FID reacts to real images that were made worse in a known way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from rich.console import Console

from gan_core import data
from gan_core.experiment import Data
from gan_core.measures import Metrics
from gan_core.metrics.sensitivity import KINDS, Reaction, images_measured, reactions, rises
from gan_core.metrics.statistics.reference import Reference
from gan_core.settings import SettingsError
from infra.files import write_atomic
from pipelines.console import count_bar
from pipelines.data.fetch import local_data
from pipelines.evaluate.detail.style import COLOURS, STYLE, figure, png_of
from pipelines.evaluate.reference import best_device, prepare_reference, reference_warnings
from pipelines.runs import shared_cache
from pipelines.settings import Storage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXES = {
    "blur": "standard deviation of the blur, in pixels",
    "noise": "standard deviation of the noise, of values from -1 to 1",
    "dropped classes": "dropped classes",
    "copies": "share of copies of training images",
}


def sensitivity_report(
    source: Data, settings: Metrics, storage: Storage, console: Console, out: Path
) -> dict[str, Any]:
    """Measures, and writes the picture. Returns a row for each disturbance and level, and what they were measured with.

    Raises SettingsError for points, and for data too few for an extractor.
    """
    dataset = data.load(local_data(source, storage, console), bars=partial(count_bar, console))
    if not dataset.is_images:
        raise SettingsError(f"data.name={source.name} is points, which are not blurred", nearest="data.name=digits")
    shared = prepare_reference(settings, dataset, storage.folder, console, shared_cache(storage))
    reference = Reference.from_bytes(shared.content, dataset).to(best_device())
    with count_bar(console, "disturbed images measured", images_measured(dataset, reference)) as move:
        found = reactions(dataset, reference, move)
    write_atomic(out, drawn(found, f"{dataset.name} by {reference.extractor.net.name}"))
    kinds = [kind for kind in KINDS[:-1] if any(one.disturbance == kind for one in found)]
    fresh = {} if dataset.held_out is None else {"fresh": len(dataset.held_out[0::2])}
    return {
        "reactions": [_row(one) for one in found],
        "rises": {kind: rises(found, kind) for kind in kinds},
        "data": dataset.name,
        **{key.removeprefix("ganfleet."): value for key, value in shared.tags.items()},
        "warnings": [
            *dataset.notes,
            *reference_warnings(reference.extractor, len(reference.target.mean), {"real": reference.count, **fresh}),
        ],
    }


def _row(one: Reaction) -> dict[str, Any]:
    near = {} if one.ratio is None else {"memorisation": one.ratio, "memorisation_nearer": one.nearer}
    return {"disturbance": one.disturbance, "level": one.level, "fid": one.fid, **near}


def drawn(found: Sequence[Reaction], title: str) -> bytes:
    """A picture with a panel for each disturbance: FID against its level. Copies have memorisation on a second axis."""
    kinds = [kind for kind in KINDS if any(one.disturbance == kind for one in found)]
    with rc_context(STYLE):
        sheet = figure(9.6, 3.3 * ((len(kinds) + 1) // 2) + 0.3)
        sheet.suptitle(f"FID of real images that were made worse: {title}", x=0.01, ha="left", fontsize=12)
        places = sheet.subplots((len(kinds) + 1) // 2, 2, squeeze=False).flat
        for axes in places[len(kinds) :]:
            axes.set_axis_off()
        for kind, axes in zip(kinds, places, strict=False):
            _panel(axes, kind, [one for one in found if one.disturbance == kind])
        return png_of(sheet)


def _panel(axes: Axes, kind: str, found: Sequence[Reaction]) -> None:
    levels = [one.level for one in found]
    axes.plot(levels, [one.fid for one in found], color=COLOURS[0], marker="o", label="FID")
    axes.set(xlabel=AXES[kind], ylabel="FID", title=kind)
    axes.set_ylim(bottom=0, top=1.12 * max(one.fid for one in found) or 1)
    if kind != "copies":
        return
    other = axes.twinx()
    nearer = [one.nearer or 0.0 for one in found]
    other.plot(levels, nearer, color=COLOURS[1], marker="s", label="nearer to the train set than fresh images")
    other.set(ylim=(0, 1.05), ylabel="memorisation_nearer")
    other.grid(False)
    axes.legend(handles=[*axes.lines, *other.lines], loc="lower left", fontsize=8)
