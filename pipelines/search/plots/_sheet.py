"""The contact sheet: samples of each trial, the best first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from gan_core.measures import Objective
from pipelines.console import number
from pipelines.evaluate.pictures import corner
from pipelines.runs import RunPaths
from pipelines.search._outcome import Outcome, ranked

BEST, FAILED = 64, 16
"""The largest number of sound and of failed trials on the sheet."""

_COLUMNS = 8  # at most
_SIDE = 202
_GAP = 14
_TEXT, _LINE = 14, 18
_CAPTION_LINES = 4
_RED = (190, 30, 30)


def draw_sheet(
    folder: RunPaths, outcomes: Sequence[Outcome], size: tuple[int, int] | None, objective: Objective
) -> Image.Image | None:
    """The last sample grids of the best trials, then of failed ones, each with its value and settings below.

    `size`: height and width of a sample in pixels, of which a cell shows 4x4; None if the grid is a scatter plot of
    points. Returns None if no trial has a grid.
    """
    with_grid = ranked([one for one in outcomes if folder.trial(one.trial).pictures()], objective)
    sound = [one for one in with_grid if one.state != "failed"]
    failed = [one for one in with_grid if one.state == "failed"]
    shown = sound[:BEST] + failed[:FAILED]
    if not shown:
        return None
    rows = -(-len(shown) // _COLUMNS)
    columns = -(-len(shown) // rows)
    wide, tall = _SIDE + _GAP, _SIDE + _CAPTION_LINES * _LINE + _GAP
    head = 2 * _LINE + _GAP
    sheet = Image.new("RGB", (columns * wide + _GAP, rows * tall + head), "white")
    draw = ImageDraw.Draw(sheet)
    left_out = "" if len(shown) == len(with_grid) else f" ({len(shown)} of {len(with_grid)})"
    heading = f"Samples of each trial, best {objective.label} first{left_out}"
    draw.text((_GAP, _GAP), heading, "black", _font(_TEXT + 3, bold=True))
    for place, one in enumerate(shown):
        left, top = _GAP + place % columns * wide, head + place // columns * tall
        sheet.paste(_cell(folder.trial(one.trial).pictures()[-1], size), (left, top))
        if one.state == "failed":
            draw.rectangle((left - 3, top - 3, left + _SIDE + 2, top + _SIDE + 2), outline=_RED, width=3)
        _caption(draw, one, f"{place + 1}.  {objective.label} {number(one.value)}", left, top + _SIDE + 4)
    return sheet


def _cell(picture: Path, size: tuple[int, int] | None) -> Image.Image:
    with Image.open(picture) as image:
        shown = image.convert("RGB") if size is None else corner(image.convert("RGB"), size, tiles=4)
    scale = _SIDE / max(shown.size)
    if scale != 1:
        shown = shown.resize([max(round(side * scale), 1) for side in shown.size], Image.Resampling.LANCZOS)
    cell = Image.new("RGB", (_SIDE, _SIDE), "white")
    cell.paste(shown, (0, 0))
    return cell


def _caption(draw: ImageDraw.ImageDraw, one: Outcome, rank: str, left: int, top: int) -> None:
    """Rank with value and state, then the settings that fit into the remaining lines."""
    failed = one.state == "failed"
    title = "failed" if failed else rank
    draw.text((left, top), title, _RED if failed else "black", _font(_TEXT, bold=True))
    state = f"step {one.step}" if failed else one.state
    width = draw.textlength(state, _font(_TEXT - 2))
    draw.text((left + _SIDE - width, top + 1), state, (90, 90, 90), _font(_TEXT - 2))
    for number_, line in enumerate(_wrapped(draw, one.described.split())[: _CAPTION_LINES - 1], start=1):
        draw.text((left, top + number_ * _LINE), line, (60, 60, 60), _font(_TEXT - 1))


def _wrapped(draw: ImageDraw.ImageDraw, words: Sequence[str]) -> list[str]:
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and draw.textlength(longer, _font(_TEXT - 1)) <= _SIDE:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font that comes with Matplotlib, so that it is the same on every machine."""
    font = font_manager.FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return ImageFont.truetype(font_manager.findfont(font), size)
