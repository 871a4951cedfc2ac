"""`ganfleet sample` into files: a PNG file for each sample, or npz files, in a folder or in S3.

A sample's bytes depend on the checkpoint, the settings of the drawing and the sample's number: not on the number of
samples, nor on where an earlier command ended.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import numpy as np
from rich.console import Console

from gan_core import checkpoint
from gan_core.loop import Game
from gan_core.metrics.statistics.reference import batch_of
from gan_core.settings import SettingsError
from infra.files import hidden_name
from infra.stores.protocol import NoPlaceError, Store
from infra.threads import each
from pipelines.console import count_bar, say
from pipelines.evaluate.drawing import Drawing, class_names, drawn_batches
from pipelines.evaluate.pictures import as_bytes, as_image, png
from pipelines.evaluate.reference import best_device

ABOUT, LABELS = "samples.json", "labels.csv"
"""What was drawn, by which a later command knows the folder; the class of each sample."""
SHARD_BATCHES, SHARD_BYTES = 4, 64e6
"""A shard of npz has so many batches at most, and so many bytes."""
_THREADS = 8
_NAME = re.compile(r"\d{6}(\.png|-\d{6}\.npz)")


@dataclass(frozen=True)
class _About:
    """The content of `samples.json`: everything that a sample depends on besides its number."""

    family: str
    step: int
    checkpoint: str
    """sha256 of the checkpoint's state."""
    seed: int
    truncation: float | None
    label: str | None
    format: str
    shape: tuple[int, ...]
    class_names: tuple[str, ...]

    def differences(self, other: dict[str, Any]) -> list[str]:
        """What is not so in `other`, each as `WHAT THERE, not HERE`."""
        mine = json.loads(self.to_json())
        return [
            f"{name} {_short(other.get(name))}, not {_short(value)}"
            for name, value in mine.items()
            if other.get(name) != value
        ]

    def to_json(self) -> bytes:
        """The bytes of the file."""
        return json.dumps(asdict(self), indent=1).encode()


def _short(value: object) -> str:
    return "none" if value is None else str(value)[:12]


def write_samples(
    folder: Path, store: Store, out: str, count: int, drawing: Drawing, form: str, console: Console
) -> str:
    """Writes samples 0 .. count of a checkpoint into a store, and keeps the files that an earlier command wrote with
    the same settings. Returns a line that says what is there.

    `out`: the place as the user wrote it; `form`: `png` or `npz`. Raises SettingsError if something else lies there,
    StoreError.
    """
    game = checkpoint.open_game(folder, best_device())
    if form == "png" and len(game.shape) != 3:
        raise SettingsError(f"--out={out}: the samples are points, no images", nearest="--format npz")
    about = _about_of(folder, game, drawing, form)
    files = _Files(game, count, form)
    there = _claim(store, out, about)
    more = max((stop for _, stop in map(_range_of, there)), default=0)
    if more > count:
        right = f"--count {more}, or another folder"
        raise SettingsError(f"--out={out} holds {more} samples, more than --count={count}", nearest=right)
    left = [one for one in files.ranges() if _name(*one, form) not in there]
    whole = sum(stop - start for start, stop in left)
    if there and whole < count:
        say(console, f"{count - whole} of {count} samples are there already")
    with count_bar(console, "samples", whole) as tick:
        files.write(store, drawing, left, tick)
    for key in there - {_name(*one, form) for one in files.ranges()}:  # the last shard of fewer samples
        store.delete(key)
    shown = f"{count} samples: {_name(*files.ranges()[0], form)} to {_name(*files.ranges()[-1], form)}"
    if game.conditional and form == "png":
        store.write(LABELS, _labels(game, drawing, count))
        shown += f", their classes in {LABELS}"
    return shown


def write_npz(folder: Path, file: Path, count: int, drawing: Drawing, console: Console) -> str:
    """Writes samples 0 .. count of a checkpoint to one npz file, with a batch in memory at a time. Returns a line that
    says what is in it."""
    game = checkpoint.open_game(folder, best_device())
    drawing.check(game)
    file.parent.mkdir(parents=True, exist_ok=True)
    with hidden_name(file) as aside, count_bar(console, "samples", count) as tick:
        with aside.open("xb") as opened:
            _write_npz(game, drawing, 0, count, opened, tick)
        aside.replace(file)
    return f"{count} samples: {_array(game)}{', labels' if game.conditional else ''}"


def _about_of(folder: Path, game: Game, drawing: Drawing, form: str) -> _About:
    drawing.check(game)
    names = class_names(game) if game.conditional else ()
    drawn = drawing.seed_of(game), drawing.truncation, drawing.label
    state = checkpoint.describe(folder)["sha256"]
    return _About(game.experiment.family.name, game.step, state, *drawn, form, tuple(game.shape), names)


def _claim(store: Store, out: str, about: _About) -> set[str]:
    """Makes the place one of these samples. Returns the files of samples there. Raises SettingsError if it has other
    files."""
    there: set[str] = set()
    with suppress(NoPlaceError):
        there = {key for key, _ in store.listed()}
    if there and ABOUT not in there:
        right = f"{out.rstrip('/')}/samples/"
        raise SettingsError(f"--out={out} has other files ({min(there)})", nearest=f"--out {right}")
    if not store.create(ABOUT, about.to_json()):
        try:
            changed = about.differences(dict(json.loads(store.read(ABOUT))))
        except (ValueError, TypeError) as error:
            raise SettingsError(f"--out={out}: {ABOUT} is damaged: {error}", nearest="another folder") from None
        if changed:
            raise SettingsError(f"--out={out} holds other samples: {'; '.join(changed)}", nearest="another folder")
    return {key for key in there if _NAME.fullmatch(key)}


def _name(start: int, stop: int, form: str) -> str:
    """The file of samples start .. stop. Names sort as the numbers do."""
    return f"{start:06d}.png" if form == "png" else f"{start:06d}-{stop - 1:06d}.npz"


def _range_of(name: str) -> tuple[int, int]:
    """The samples of a file."""
    first, _, last = Path(name).stem.partition("-")
    return int(first), int(last or first) + 1


class _Files:
    """The files of `count` samples of a game."""

    def __init__(self, game: Game, count: int, form: str) -> None:
        self._game, self._count, self._form = game, count, form
        self._batch = batch_of(game.shape)
        size = 1 if form == "png" else 4
        batches = int(SHARD_BYTES / (size * math.prod(game.shape))) // self._batch
        self._shard = self._batch * min(max(batches, 1), SHARD_BATCHES)

    def ranges(self) -> list[tuple[int, int]]:
        """The samples of each file, in order."""
        size = 1 if self._form == "png" else self._shard
        return [(start, min(start + size, self._count)) for start in range(0, self._count, size)]

    def write(self, store: Store, drawing: Drawing, left: list[tuple[int, int]], tick: Callable[[int], None]) -> None:
        """Draws and writes the files of these samples."""
        if self._form == "npz":
            for start, stop in left:
                content = io.BytesIO()
                _write_npz(self._game, drawing, start, stop, content, tick)
                store.write(_name(start, stop, "npz"), content.getvalue())
            return
        for batch, group in groupby((start for start, _ in left), lambda start: start // self._batch):
            first = batch * self._batch
            (samples,) = drawn_batches(self._game, drawing, first, first + self._batch)
            pixels = as_bytes(samples)

            def write(index: int, pixels: np.ndarray = pixels, first: int = first) -> None:
                store.write(_name(index, index + 1, "png"), png(as_image(pixels[index - first])))

            indices = list(group)
            each(write, indices, _THREADS)
            tick(len(indices))


def _array(game: Game) -> str:
    """The array of an npz file that holds the samples."""
    return "images" if len(game.shape) == 3 else "points"


def _write_npz(
    game: Game, drawing: Drawing, start: int, stop: int, file: IO[bytes], tick: Callable[[int], None]
) -> None:
    """Writes what `np.savez` would, without holding all samples: `images` uint8 (N, H, W, C), or `points` float32
    (N, D), and for conditional families `labels` int64 (N,)."""
    images = len(game.shape) == 3
    shape = (*game.shape[1:], game.shape[0]) if images else game.shape
    about = {"shape": (stop - start, *shape), "fortran_order": False, "descr": "|u1" if images else "<f4"}
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open(zipfile.ZipInfo(f"{_array(game)}.npy"), "w", force_zip64=True) as array:
            np.lib.format.write_array_header_1_0(array, about)
            for samples in drawn_batches(game, drawing, start, stop):
                array.write((as_bytes(samples) if images else samples.float().cpu().numpy()).tobytes())
                tick(len(samples))
        labels = drawing.labels(game, start, stop)
        if labels is not None:
            with archive.open(zipfile.ZipInfo("labels.npy"), "w", force_zip64=True) as array:
                np.lib.format.write_array(array, labels.cpu().numpy())


def _labels(game: Game, drawing: Drawing, count: int) -> bytes:
    """A line for each file: its name, the number of its class and the class's name."""
    labels, names = drawing.labels(game, 0, count), class_names(game)
    assert labels is not None
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["file", "label", "name"])
    lines.writerows(
        [_name(index, index + 1, "png"), label, names[label]] for index, label in enumerate(labels.tolist())
    )
    return text.getvalue().encode()
