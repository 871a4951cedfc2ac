"""Augmentation: which pixels move where, that real and generated images move alike, and that gradients flow."""

import pytest
import torch
from torch.testing import assert_close

from gan_core.options import AUGMENTATIONS
from gan_core.recipe import Turn
from gan_core.techniques.augmentation import TRANSFORMS, augmentation

COUNT = 64
SHAPES = [(1, 16, 16), (3, 16, 16), (2, 8, 24)]
every_transform = pytest.mark.parametrize("name", TRANSFORMS)


def turn(number: int = 0, *, size: int = COUNT, player: str = "critic", first: int = 0) -> Turn:
    return Turn(0, player, number, size, first=first)


def images(shape=(3, 16, 16), count: int = COUNT) -> torch.Tensor:
    draw = torch.Generator().manual_seed(3)
    return torch.rand(count, *shape, generator=draw, dtype=torch.float64) + 1  # nowhere 0


@every_transform
def test_images_in_one_place_of_the_batch_are_transformed_alike(name):
    one = images()
    augment = augmentation(name)
    assert torch.equal(augment(one, turn()), augment(one.clone(), turn()))
    apart = [augment(one, other) for other in (turn(1), turn(player="generator"))]
    assert not any(torch.equal(augment(one, turn()), other) for other in apart)


@every_transform
@pytest.mark.parametrize("shape", SHAPES)
def test_a_part_of_the_batch_is_transformed_as_in_the_whole(name, shape):
    whole = augmentation(name)(images(shape), turn())
    assert whole.shape == (COUNT, *shape)
    part = augmentation(name)(images(shape)[16:32], turn(first=16))
    assert torch.equal(part, whole[16:32])


def test_half_of_the_images_are_mirrored():
    before, after = images(), augmentation("flip")(images(), turn())
    mirrored = [bool((one == other.flip(2)).all()) for one, other in zip(before, after, strict=True)]
    same = [bool((one == other).all()) for one, other in zip(before, after, strict=True)]
    assert all(one != other for one, other in zip(mirrored, same, strict=True))
    assert 16 < sum(mirrored) < 48


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shift_is_of_whole_pixels_and_fills_with_zeros(shape):
    _, height, width = shape
    shifts = [
        (down, right) for down in range(-height // 8, height // 8 + 1) for right in range(-width // 8, width // 8 + 1)
    ]
    before = images(shape)
    after = augmentation("translation")(before, turn())
    found = torch.stack([(shifted(before, *shift) == after).flatten(1).all(dim=1) for shift in shifts], dim=1)
    assert found.sum(dim=1).eq(1).all()
    downs, rights = zip(*(shifts[int(one)] for one in found.int().argmax(dim=1)), strict=True)
    assert (min(downs), max(downs)) == (-height // 8, height // 8)
    assert (min(rights), max(rights)) == (-width // 8, width // 8)


def shifted(images: torch.Tensor, down: int, right: int) -> torch.Tensor:
    height, width = images.shape[2:]
    moved = torch.zeros_like(images)
    (rows, new_rows), (columns, new_columns) = (
        (slice(max(-by, 0), side - max(by, 0)), slice(max(by, 0), side - max(-by, 0)))
        for by, side in ((down, height), (right, width))
    )
    moved[:, :, new_rows, new_columns] = images[:, :, rows, columns]
    return moved


@pytest.mark.parametrize("shape", [*SHAPES, (1, 9, 9)])
def test_what_is_cut_out_is_a_rectangle_of_half_the_sides(shape):
    _, height, width = shape
    before = images(shape)
    after = augmentation("cutout")(before, turn())
    heights, widths = set(), set()
    for one, cut in zip(before, after, strict=True):
        gone = (cut == 0).all(dim=0)
        assert torch.equal(cut, one * ~gone)
        rows, columns = gone.any(dim=1), gone.any(dim=0)
        assert torch.equal(gone, rows[:, None] & columns)
        heights.add(int(rows.sum()))
        widths.add(int(columns.sum()))
    assert (max(heights), max(widths)) == (height // 2, width // 2)
    assert min(heights) < height // 2  # some lie partly outside
    assert min(heights) > 0


def test_colour_follows_its_definition():
    before = images((3, 4, 4))
    after = augmentation("colour")(before, turn())
    mean_of = lambda x: x.mean(dim=(1, 2, 3))  # noqa: E731
    brightness = mean_of(after) - mean_of(before)
    assert -0.5 <= brightness.min() < -0.4
    assert 0.4 < brightness.max() < 0.5
    grey = lambda x: x.mean(dim=1) - mean_of(x)[:, None, None]  # noqa: E731
    contrast = (grey(after) / grey(before)).flatten(1)
    assert_close(contrast, contrast[:, :1].expand_as(contrast))
    assert 0.5 <= contrast.min() < 0.6
    assert 1.4 < contrast.max() < 1.5
    hue = lambda x: x - x.mean(dim=1, keepdim=True)  # noqa: E731
    saturation = (hue(after) / hue(before)).flatten(1) / contrast[:, :1]
    assert_close(saturation, saturation[:, :1].expand_as(saturation))
    assert 0 <= saturation.min() < 0.2
    assert 1.8 < saturation.max() < 2


@every_transform
def test_gradients_flow_through_it_twice(name):
    augment = augmentation(name)
    given = images((1, 8, 8), 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment(x, turn(size=4)), given)
    assert torch.autograd.gradgradcheck(lambda x: augment(x, turn(size=4)).square(), given)


@every_transform
def test_each_image_has_each_transform_with_the_probability_asked_for(name):
    before, all_of_them = images(), augmentation(name)(images(), turn())
    for share in (0.0, 0.3, 1.0):
        after = augmentation(name)(before, turn(), torch.tensor(share))
        transformed = (after == all_of_them).flatten(1).all(dim=1)
        untouched = (after == before).flatten(1).all(dim=1)
        assert (transformed | untouched).all()
        changeable = (all_of_them != before).flatten(1).any(dim=1)  # a flip that is drawn as no flip changes nothing
        found = (transformed & changeable).sum() / changeable.sum()
        assert abs(float(found) - share) <= 4 * (share * (1 - share) / int(changeable.sum())) ** 0.5
        part = augmentation(name)(before[16:32], turn(first=16), torch.tensor(share))
        assert torch.equal(part, after[16:32])


def test_transforms_are_chosen_independently_of_each_other():
    before = images()
    first, second = (augmentation(name)(before, turn(), torch.tensor(0.5)) for name in ("colour", "translation"))
    chosen = [(after != before).flatten(1).any(dim=1) for after in (first, second)]
    both = (chosen[0] & chosen[1]).double().mean()
    assert 0.05 < both < 0.5


def test_the_settings_know_every_transform():
    assert ("none", *TRANSFORMS) == AUGMENTATIONS


@every_transform
def test_low_precision_is_augmented_within_the_image(name):
    x = images().bfloat16()
    for number in range(20):
        assert augmentation(name)(x, turn(number)).isfinite().all()
