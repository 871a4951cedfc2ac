"""Pictures against pixels worked out by hand."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.evaluate.pictures import grid, png, samples_picture, scatter

GREY, BLUE, WHITE = (190, 190, 190), (30, 80, 220), (255, 255, 255)


def test_five_grey_images_of_64_pixels_in_two_rows():
    values = [-1.0, 1.0, 0.5, -0.25, 7.0]
    images = torch.stack([torch.full((1, 64, 64), value) for value in values])
    picture = grid(images)
    assert picture.mode == "L"
    assert picture.size == (3 * 66 + 2, 2 * 66 + 2)  # 3 columns, 2 rows, a margin of 2 around each
    expected = np.full((2 * 66 + 2, 3 * 66 + 2), 128, np.uint8)
    # (x + 1) * 127.5, rounded: 191.25, 95.625; 7 is clamped.
    for index, level in enumerate([0, 255, 191, 96, 255]):
        top, left = 2 + index // 3 * 66, 2 + index % 3 * 66
        expected[top : top + 64, left : left + 64] = level
    np.testing.assert_array_equal(np.asarray(picture), expected)


def test_a_small_image_is_enlarged_pixel_by_pixel():
    image = torch.tensor([[-1.0, 1.0], [0.0, -0.5]]).reshape(1, 1, 2, 2)
    picture = np.asarray(grid(image))
    assert picture.shape == (48 + 4, 48 + 4)  # 2 pixels of 24 each, and the margins
    np.testing.assert_array_equal(np.unique(picture[2:26, 2:26]), [0])
    np.testing.assert_array_equal(np.unique(picture[2:26, 26:50]), [255])
    np.testing.assert_array_equal(np.unique(picture[26:50, 2:26]), [128])
    np.testing.assert_array_equal(np.unique(picture[26:50, 26:50]), [64])  # 63.75
    border = np.ones_like(picture, dtype=bool)
    border[2:50, 2:50] = False
    assert set(picture[border]) == {128}


@pytest.mark.parametrize(("side", "times"), [(8, 6), (16, 3), (28, 2), (32, 2), (48, 1), (64, 1)])
def test_a_sample_is_enlarged_by_a_whole_number(side, times):
    image = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    inside = np.asarray(grid(image))[2:-2, 2:-2]
    assert inside.shape == (side * times, side * times)
    np.testing.assert_array_equal(inside, np.kron(inside[::times, ::times], np.ones((times, times), np.uint8)))


def test_colours_stay_in_their_channels():
    image = torch.tensor([1.0, -1.0, 0.2]).reshape(1, 3, 1, 1).expand(1, 3, 48, 48)
    picture = grid(image.repeat(4, 1, 1, 1))
    assert picture.mode == "RGB"
    assert picture.size == (102, 102)
    assert {picture.getpixel(at) for at in [(2, 2), (49, 49), (52, 2), (99, 99)]} == {(255, 0, 153)}
    assert {picture.getpixel(at) for at in [(0, 0), (1, 50), (50, 30), (51, 51), (101, 101)]} == {(128, 128, 128)}


def test_rows_and_columns_of_an_image_are_not_swapped():
    image = torch.full((1, 1, 48, 48), -1.0)
    image[0, 0, 5, 40] = 1.0
    assert np.argwhere(np.asarray(grid(image)) == 255).tolist() == [[2 + 5, 2 + 40]]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 10, 64])
def test_a_grid_is_as_near_to_a_square_as_can_be(count):
    levels = torch.linspace(-1, 1, count).reshape(count, 1, 1, 1).expand(count, 1, 48, 48)
    picture = np.asarray(grid(levels))
    columns = next(n for n in range(1, 99) if n * n >= count)
    rows = -(-count // columns)
    assert picture.shape == (rows * 50 + 2, columns * 50 + 2)
    corners = picture[2::50, 2::50][:rows, :columns].flatten()[:count]
    expected = np.round((np.linspace(-1, 1, count, dtype=np.float32) + 1) * np.float32(127.5))
    np.testing.assert_array_equal(corners, expected)


def test_points_lie_where_they_belong():
    real = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    picture = scatter(torch.tensor([[0.0, 0.0], [0.5, 0.25]]), real)
    assert picture.size == (512, 512)
    # The frame reaches from -1.25 to 1.25 on 512 pixels: 204.8 a unit around (256, 256), y upwards.
    for x, y in [(461, 256), (256, 51), (51, 256), (256, 461)]:
        assert picture.getpixel((x, y)) == GREY
    for x, y in [(256, 256), (256 + 102, 256 - 51)]:
        assert picture.getpixel((x, y)) == BLUE
    pixels = np.asarray(picture).reshape(-1, 3)
    assert {tuple(map(int, pixel)) for pixel in np.unique(pixels, axis=0)} == {GREY, BLUE, WHITE}
    assert 6 * 9 <= int((pixels != 255).any(1).sum()) <= 6 * 36, "six small dots, the rest white"


def test_samples_cover_real_points_and_may_leave_the_frame():
    real = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    picture = scatter(torch.tensor([[1.0, 0.0], [1e6, -1e6]]), real)
    assert picture.getpixel((461, 256)) == BLUE
    assert picture.getpixel((256, 256)) == GREY


def test_what_is_drawn_follows_the_shape():
    real = torch.rand(10, 2)
    points, images = torch.zeros(3, 2), torch.zeros(3, 1, 8, 8)
    assert png(samples_picture(points, real)) == png(scatter(points, real))
    assert png(samples_picture(images, real)) == png(grid(images))


def test_a_png_is_read_back_as_it_was():
    picture = grid(torch.rand(6, 3, 8, 8) * 2 - 1)
    content = png(picture)
    back = Image.open(io.BytesIO(content))
    assert back.format == "PNG"
    np.testing.assert_array_equal(np.asarray(back), np.asarray(picture))
