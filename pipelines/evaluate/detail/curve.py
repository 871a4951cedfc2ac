"""The curve of precision against recall, as a picture and as a table."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from torch import Tensor

from gan_core.metrics.pairs.curve import BETA, CLUSTERS, Curve, precision_recall_curve
from gan_core.settings import SettingsError
from infra.files import write_atomic
from pipelines.evaluate.detail.style import COLOURS, STYLE, figure, png_of


def write_curve(real: Tensor | None, fake: Tensor, picture: Path, table: Path) -> dict[str, Any]:
    """Writes both files, and returns the two numbers that stand for the curve. Raises SettingsError for too few images
    and for published statistics, which have no single ones."""
    if real is None:
        raise SettingsError("--curve compares single images, published statistics have none", nearest="no --curve")
    fewest = min(len(real), len(fake))
    if fewest < CLUSTERS:
        raise SettingsError(
            f"--curve of {fewest} images: its {CLUSTERS} clusters take more", nearest=f"{CLUSTERS} images"
        )
    curve = precision_recall_curve(real, fake)
    write_atomic(picture, _drawn(curve))
    lines = io.StringIO()
    rows = csv.writer(lines, lineterminator="\n")
    rows.writerow(["recall", "precision"])
    for recall, precision in zip(curve.recall.tolist(), curve.precision.tolist(), strict=True):
        rows.writerow([f"{recall:.6f}", f"{precision:.6f}"])
    write_atomic(table, lines.getvalue().encode())
    return {"prd_precision": curve.f_beta(1 / BETA), "prd_recall": curve.f_beta(BETA)}


def _drawn(curve: Curve) -> bytes:
    from matplotlib import rc_context

    with rc_context(STYLE):
        sheet = figure(4.6, 4.4)
        axes = sheet.subplots()
        axes.plot(curve.recall, curve.precision, color=COLOURS[0], linewidth=2)
        axes.fill_between(curve.recall, curve.precision, color=COLOURS[0], alpha=0.12)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        said = f"precision {curve.f_beta(1 / BETA):.3f}, recall {curve.f_beta(BETA):.3f}"
        axes.set_title(f"{said} (F1/8, F8)")
        return png_of(sheet)
