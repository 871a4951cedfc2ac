"""`ganfleet sample`: classes, interpolations, reconstructions, and a run's history."""

import math
from collections.abc import Sequence

import pytest
import torch
from PIL import Image

from gan_core import checkpoint
from gan_core.loop import Game
from gan_core.metrics.scores import sample_range
from gan_core.settings import SettingsError
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
    assert sample(folder, tmp_path / "seven.png", 9, "7") == "class 7"
    from gan_core import streams

    z = streams.latents(0, "picture", 0, 9, 8, game.device, game.dtype)
    wanted = grid(game.sample(z, torch.full((9,), 7)))
    assert Image.open(tmp_path / "seven.png").tobytes() == wanted.tobytes()
    for wrong, right in {"10": "9", "-3": "0", "seven": "0"}.items():
        with pytest.raises(SettingsError, match=f"--label={wrong}: classes are 0 to 9; nearest: --label={right}"):
            sample(folder, tmp_path / "ten.png", 9, wrong)


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
    assert sample(folder, tmp_path / "named.png", 4, label) == f"class {label}"
    _, nameless = saved(storage, tmp_path, "cgan")
    sample(nameless, tmp_path / "numbered.png", 4, str(place))
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
        sample(folder, tmp_path / "none.png", 4, wrong)
    assert str(caught.value) == f"--label={wrong}: classes are {', '.join(names)}; nearest: --label={right}"


def test_without_a_class_a_column_shows_each(storage, tmp_path):
    names = [f"kind {number}" for number in range(10)]
    game, folder = saved(storage, tmp_path, "cgan", names)
    assert sample(folder, tmp_path / "all.png", None, None) == f"classes, a column each: {', '.join(names)}"
    assert Image.open(tmp_path / "all.png").tobytes() == grid(sample_range(game, 0, 80, "picture"), 10).tobytes()


@pytest.mark.parametrize("family", ["dcgan", "cgan"])
def test_rows_lead_from_one_point_to_another(storage, tmp_path, family):
    _, folder = saved(storage, tmp_path, family)
    sample(folder, tmp_path / "rows.png", 3, None, "interpolations")
    picture = Image.open(tmp_path / "rows.png")
    assert picture.size == (STEPS * 50 + 2, 3 * 50 + 2)


def test_reconstructions_are_below_what_they_are_of(storage, tmp_path):
    _, folder = saved(storage, tmp_path, "vae")
    sample(folder, tmp_path / "pairs.png", 5, None, "reconstructions")
    assert Image.open(tmp_path / "pairs.png").size == (5 * 50 + 2, 2 * 50 + 2)
    _, other = saved(storage, tmp_path, "dcgan")
    with pytest.raises(SettingsError, match="dcgan has none; nearest: a run of vae"):
        sample(other, tmp_path / "pairs.png", 5, None, "reconstructions")


def test_a_runs_history_moves(played, tmp_path):
    animate(played.folder.pictures(), tmp_path / "history.gif")
    film = Image.open(tmp_path / "history.gif")
    assert film.n_frames == len(played.folder.pictures()) == 3
    with pytest.raises(SettingsError, match="needs two sample grids, there are 1"):
        animate(played.folder.pictures()[:1], tmp_path / "history.gif")
