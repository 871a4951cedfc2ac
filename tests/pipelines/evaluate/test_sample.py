"""`ganfleet sample`: classes, interpolations, reconstructions, and a run's history."""

import math
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from gan_core import checkpoint, data, streams
from gan_core.experiment import Data
from gan_core.loop import Game
from gan_core.metrics.scores import sample_range
from gan_core.settings import SettingsError
from pipelines.evaluate.drawing import Drawing
from pipelines.evaluate.pictures import grid
from pipelines.evaluate.sample import STEPS, animate, sample, slerp
from tests.pipelines.small_runs import small_train


def saved(storage, tmp_path, family: str, names: Sequence[str] = ()):
    """An untrained game of 8x8 digits."""
    experiment = small_train(storage, family, f"draw-{family}")
    game = Game(experiment, (1, 8, 8), classes=10, class_names=names)
    return game, checkpoint.save(game, tmp_path / "checkpoint")


def test_slerp_goes_along_a_great_circle():
    start, end = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    for share in (0.0, 0.25, 0.5, 1.0):
        angle = share * math.pi / 2
        torch.testing.assert_close(slerp(start, end, share), torch.tensor([[math.cos(angle), math.sin(angle)]]))
    opposite = slerp(start, -start, 0.5)
    assert opposite.isfinite().all()
    torch.testing.assert_close(slerp(start, 3 * start, 0.5), 2 * start)


def test_a_class_is_drawn(storage, tmp_path):
    game, folder = saved(storage, tmp_path, "cgan")
    assert sample(folder, tmp_path / "seven.png", 9, Drawing(label="7")) == "class 7"
    z = streams.latents(0, "picture", 0, 9, 8, game.device, game.dtype)
    wanted = grid(game.sample(z, torch.full((9,), 7)))
    assert Image.open(tmp_path / "seven.png").tobytes() == wanted.tobytes()
    for wrong, right in {"10": "--label=9", "-3": "--label=0", "seven": "one of these"}.items():
        with pytest.raises(SettingsError, match=f"--label={wrong}: classes are 0 to 9; nearest: {right}"):
            sample(folder, tmp_path / "ten.png", 9, Drawing(label=wrong))


@pytest.mark.parametrize(
    ("names", "label", "place"),
    [
        (["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"], "fox", 5),
        (["0", "1", "2", "3", "5", "8", "13", "21", "34", "55"], "5", 4),
        (["1", "2", "3", "4", "5", "6", "7", "8", "9", "ten"], "1", 0),
    ],
)
def test_a_class_is_drawn_by_its_name(storage, tmp_path, names, label, place):
    _, folder = saved(storage, tmp_path, "cgan", names)
    assert sample(folder, tmp_path / "named.png", 4, Drawing(label=label)) == f"class {label}"
    _, nameless = saved(storage, tmp_path, "cgan")
    sample(nameless, tmp_path / "numbered.png", 4, Drawing(label=str(place)))
    assert (tmp_path / "named.png").read_bytes() == (tmp_path / "numbered.png").read_bytes()


@pytest.mark.parametrize(
    ("names", "wrong", "right"),
    [
        (["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"], "dogs", "dog"),
        (["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"], "2", "cat"),
        (["0", "1", "2", "3", "5", "8", "13", "21", "34", "55"], "9", "8"),
        (["00", "01", "02", "03", "04", "05", "06", "07", "08", "09"], "7", "07"),
    ],
)
def test_a_name_that_no_class_has_is_told_with_the_nearest(storage, tmp_path, names, wrong, right):
    _, folder = saved(storage, tmp_path, "cgan", names)
    with pytest.raises(SettingsError) as caught:
        sample(folder, tmp_path / "none.png", 4, Drawing(label=wrong))
    assert str(caught.value) == f"--label={wrong}: classes are {', '.join(names)}; nearest: --label={right}"


def test_without_a_class_a_column_shows_each(storage, tmp_path):
    names = [f"kind {number}" for number in range(10)]
    game, folder = saved(storage, tmp_path, "cgan", names)
    assert sample(folder, tmp_path / "all.png", None) == f"classes, a column each: {', '.join(names)}"
    assert Image.open(tmp_path / "all.png").tobytes() == grid(sample_range(game, 0, 80, "picture"), 10).tobytes()


@pytest.mark.parametrize("family", ["dcgan", "cgan"])
def test_rows_lead_from_one_point_to_another(storage, tmp_path, family):
    _, folder = saved(storage, tmp_path, family)
    sample(folder, tmp_path / "rows.png", 3, kind="interpolations")
    picture = Image.open(tmp_path / "rows.png")
    assert picture.size == (STEPS * 50 + 2, 3 * 50 + 2)


def test_reconstructions_are_below_what_they_are_of(storage, tmp_path):
    _, folder = saved(storage, tmp_path, "vae")
    sample(folder, tmp_path / "pairs.png", 5, kind="reconstructions")
    assert Image.open(tmp_path / "pairs.png").size == (5 * 50 + 2, 2 * 50 + 2)
    _, other = saved(storage, tmp_path, "dcgan")
    with pytest.raises(SettingsError, match="dcgan has none; nearest: a run of vae"):
        sample(other, tmp_path / "pairs.png", 5, kind="reconstructions")


def test_a_runs_history_moves(played, tmp_path):
    animate(played.folder.pictures(), tmp_path / "history.gif")
    film = Image.open(tmp_path / "history.gif")
    assert film.n_frames == len(played.folder.pictures()) == 4
    strips = []
    for number, path in enumerate(played.folder.pictures()):
        film.seek(number)
        frame, sheet = film.convert("L"), Image.open(path)
        assert frame.size == (sheet.width, sheet.height + 20)
        strips.append(np.asarray(frame.crop((0, 0, sheet.width, 20))))
        below = np.asarray(frame.crop((0, 20, *frame.size)), dtype=int)
        assert np.abs(below - np.asarray(sheet, dtype=int)).max() < 3
    for strip in strips:  # dark letters on white
        assert strip.max() > 250
        assert strip.min() < 60
    assert not np.array_equal(strips[0], strips[1])
    with pytest.raises(SettingsError, match="needs two sample grids, there are 1"):
        animate(played.folder.pictures()[:1], tmp_path / "history.gif")


def test_values_are_cut_as_a_normal_distribution_is():
    z = torch.randn(20_000, generator=torch.Generator().manual_seed(3))
    for limit in (0.3, 1.7):
        cut = streams.truncated(z, limit)
        assert stats.kstest(cut.numpy(), stats.truncnorm(-limit, limit).cdf).pvalue > 0.01
        assert float(cut.abs().max()) <= limit
        assert torch.equal(cut.argsort(), z.argsort()), "a point stays the same point"
    torch.testing.assert_close(streams.truncated(z, 30.0), z)


def test_a_seed_and_a_limit_are_of_the_samples(storage, tmp_path):
    game, folder = saved(storage, tmp_path, "dcgan")
    sample(folder, tmp_path / "other.png", 9, Drawing(seed=5, truncation=0.25))
    draw = torch.Generator().manual_seed(int.from_bytes(blake2b(b"5/picture/block/0", digest_size=8).digest()) >> 1)
    z = torch.randn(256, 8, generator=draw)[:9]
    cut = torch.from_numpy(stats.truncnorm(-0.25, 0.25).ppf(stats.norm.cdf(z.double().numpy()))).float()
    wanted = np.asarray(grid(game.sample(cut)), dtype=int)
    assert np.abs(np.asarray(Image.open(tmp_path / "other.png"), dtype=int) - wanted).max() <= 1


def test_stylegan2_is_truncated_in_w(storage, tmp_path):
    game, _ = saved(storage, tmp_path, "stylegan2")
    game.average.w_mean.normal_(generator=torch.Generator().manual_seed(2))
    folder, file = checkpoint.save(game, tmp_path / "checkpoint"), tmp_path / "half.png"
    z = streams.latents(0, "picture", 0, 9, 8, game.device, game.dtype)
    for psi in (0.5, 1.0):
        sample(folder, file, 9, Drawing(truncation=psi))
        assert Image.open(file).tobytes() == grid(game.sample(z, psi=psi)).tobytes()
    assert (game.sample(z) - game.sample(z, psi=0.5)).abs().max() > 0.01
    with pytest.raises(SettingsError, match="--truncation=2: .* takes psi, from 0 to 1; nearest: --truncation 0.7"):
        sample(folder, file, 9, Drawing(truncation=2.0))
    sample(folder, file, 2, Drawing(truncation=0.5), "interpolations")
    between = file.read_bytes()
    sample(folder, file, 2, kind="interpolations")
    assert file.read_bytes() != between


def tiles(picture: Image.Image, side: int) -> np.ndarray:
    """The samples of a grid of 8x8 images, one pixel for each that was enlarged six times."""
    pixels = np.asarray(picture)
    rows = [pixels[top : top + 48 : 6, left : left + 48 : 6] for top, left in places(picture, side)]
    return np.stack(rows)


def places(picture: Image.Image, columns: int) -> list[tuple[int, int]]:
    rows = (picture.height - 2) // 50
    return [(2 + 50 * row, 2 + 50 * column) for row in range(rows) for column in range(columns)]


@pytest.mark.parametrize("family", ["dcgan", "cgan"])
def test_real_images_are_next_to_samples_of_their_class(storage, tmp_path, family):
    _, folder = saved(storage, tmp_path, family)
    sample(folder, tmp_path / "alone.png", 20)
    sample(folder, tmp_path / "both.png", 20, kind="real")
    alone, both = Image.open(tmp_path / "alone.png"), Image.open(tmp_path / "both.png")
    assert both.size == (2 * alone.width + 16, alone.height + 20)
    left = both.crop((0, 20, alone.width, both.height))
    assert left.tobytes() == alone.tobytes()
    columns = (alone.width - 2) // 50
    shown = tiles(both.crop((alone.width + 16, 20, *both.size)), columns)[:20]
    real = data.load(Data(image_size=8))
    pixels = ((real.images[:, 0].float() + 1) * 127.5).round().numpy().astype(np.uint8)
    found = [np.flatnonzero((pixels == one).all(axis=(1, 2))) for one in shown]
    assert all(len(numbers) for numbers in found), "each is an image of the data"
    assert len({int(numbers[0]) for numbers in found}) > 15
    if family == "cgan":
        assert [int(real.labels[numbers[0]]) for numbers in found] == [number % 10 for number in range(20)]


def test_points_have_no_real_images_next_to_them(tmp_path):
    experiment = small_train(tmp_path, "gan", "points", "data.name=ring8")
    folder = checkpoint.save(Game(experiment, (2,)), tmp_path / "checkpoint")
    with pytest.raises(SettingsError, match="drawn over the real ones anyway; nearest: no --real"):
        sample(folder, tmp_path / "points.png", 20, kind="real")
