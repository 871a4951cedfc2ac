"""Folders of images, against PIL and numpy on the same files."""

import errno
import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gan_core.data.image_files import IMAGE_SUFFIXES, colours, files_digest, image_batches, image_files, read_image

COLOURS = np.random.default_rng(1).integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)  # (N, H, W, C)
GREYS = COLOURS[..., 0]


def written(path: Path, pixels: np.ndarray, mode: str | None = None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def colour_folder(folder: Path) -> list[Path]:
    return [written(folder / f"{index}.png", pixels) for index, pixels in enumerate(COLOURS)]


def only(path: Path, channels: int | None = None) -> np.ndarray:
    """The pixels (H, W, C) of a single file, with its own channels unless others are wanted."""
    (batch,) = image_batches([path], 1, channels or colours([path]).channels)
    return batch[0].permute(1, 2, 0).numpy()


# Files of a folder


def test_files_are_found_in_every_folder_in_posix_order(tmp_path):
    names = ["b.png", "B.PNG", "a/2.jpg", "a/10.jpeg", "a.bmp", "a-b/0.webp", "ü/x y.tif", "z.gif", "z.ppm", "z.TIFF"]
    for name in [*names, "notes.txt", "a/labels.csv", ".hidden.png", ".thumbs/1.png", "a/._2.jpg", "png"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in image_files(tmp_path)]
    assert found == sorted(names)


def test_linked_folders_are_followed_but_not_in_circles(tmp_path):
    colour_folder(tmp_path / "elsewhere" / "cats")
    (tmp_path / "set" / "dogs").mkdir(parents=True)
    written(tmp_path / "set" / "dogs" / "0.png", COLOURS[0])
    (tmp_path / "set" / "cats").symlink_to(tmp_path / "elsewhere" / "cats")
    (tmp_path / "set" / "dogs" / "up").symlink_to(tmp_path / "set")
    found = [path.relative_to(tmp_path / "set").as_posix() for path in image_files(tmp_path / "set")]
    assert found == [*(f"cats/{index}.png" for index in range(5)), "dogs/0.png"]


def test_a_folder_that_is_not_there_is_named_with_the_nearest_one(tmp_path):
    (tmp_path / "samples").mkdir()
    (tmp_path / "weights").mkdir()
    some = "a folder of images"
    for wrong, right in [("sample", tmp_path / "samples"), ("no/where", some), ("weights/x", some)]:
        with pytest.raises(ValueError, match=re.escape(str(tmp_path / wrong))) as caught:
            image_files(tmp_path / wrong)
        assert str(caught.value).endswith(f"does not exist; nearest: {right}")


@pytest.fixture
def unreadable(tmp_path):
    """`unreadable(path)` makes the system refuse to list a folder. Rights do not do that if root runs the tests."""
    taken: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        scandir = os.scandir

        def refusing(path=".", *rest):
            if Path(path) in taken:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return scandir(path, *rest)

        patch.setattr(os, "scandir", refusing)
        yield taken.append


@pytest.mark.parametrize("part", ["", "cats", "cats/old"])
def test_a_folder_that_cannot_be_listed_is_named(tmp_path, unreadable, part):
    for name in ("cats/0.png", "cats/old/1.png", "dogs/0.png"):
        written(tmp_path / "set" / name, COLOURS[0])
    unreadable(tmp_path / "set" / part)
    with pytest.raises(ValueError, match="Permission denied; nearest: chmod u\\+rx") as caught:
        image_files(tmp_path / "set")
    assert f"{tmp_path / 'set' / part} cannot be listed" in str(caught.value)


def test_a_link_to_a_file_that_is_gone_is_listed_and_one_to_a_folder_is_refused(tmp_path):
    written(tmp_path / "set" / "cats" / "0.png", COLOURS[0])
    (tmp_path / "set" / "cats" / "1.png").symlink_to(tmp_path / "gone.png")
    assert [path.name for path in image_files(tmp_path / "set")] == ["0.png", "1.png"]
    with pytest.raises(ValueError, match="1.png is no image that can be read: No such file or directory$"):
        read_image(tmp_path / "set" / "cats" / "1.png")
    (tmp_path / "set" / "dogs").symlink_to(tmp_path / "moved away")
    with pytest.raises(ValueError, match=f"{tmp_path / 'set' / 'dogs'} is a link to {tmp_path / 'moved away'}"):
        image_files(tmp_path / "set")


def test_a_folder_without_images_is_told_what_an_image_is(tmp_path):
    (tmp_path / "features.npy").touch()
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))) as caught:
        image_files(tmp_path)
    assert all(suffix in str(caught.value) for suffix in IMAGE_SUFFIXES)


# Digests


def test_a_digest_belongs_to_the_content_not_to_the_place(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there" / "deep"
    assert files_digest(here, colour_folder(here)) == files_digest(there, colour_folder(there))


def test_a_digest_changes_with_any_file(tmp_path):
    files = colour_folder(tmp_path)
    digests = [files_digest(tmp_path, files), files_digest(tmp_path, files[::-1]), files_digest(tmp_path, files[:-1])]
    content = bytearray(files[3].read_bytes())
    content[-1] ^= 1
    files[3].write_bytes(content)
    digests.append(files_digest(tmp_path, files))
    digests.append(files_digest(tmp_path, [*files[:4], files[4].rename(tmp_path / "9.png")]))
    assert len(set(digests)) == len(digests)


def test_the_bytes_between_two_files_belong_to_one_of_them(tmp_path):
    (tmp_path / "a.png").write_bytes(b"12")
    (tmp_path / "b.png").write_bytes(b"3")
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    before = files_digest(tmp_path, files)
    files[0].write_bytes(b"1")
    files[1].write_bytes(b"23")
    assert files_digest(tmp_path, files) != before


def test_a_link_to_nothing_has_no_digest(tmp_path):
    (tmp_path / "0.png").symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match=f"{tmp_path / '0.png'} is no image that can be read: No such file"):
        files_digest(tmp_path, [tmp_path / "0.png"])


def test_a_file_larger_than_what_is_read_at_once_is_digested_whole(tmp_path):
    path = tmp_path / "large.png"
    digests = set()
    for last in (b"a", b"b"):
        path.write_bytes(bytes(3 * 2**20) + last)
        digests.add(files_digest(tmp_path, [path]))
    assert len(digests) == 2
    assert all(len(digest) == len(hashlib.sha256().hexdigest()) for digest in digests)


# Pixels


@pytest.mark.parametrize("batch", [1, 2, 5, 64])
def test_batches_hold_every_file_in_order(tmp_path, batch):
    batches = list(image_batches(colour_folder(tmp_path), batch, 3))
    assert [len(part) for part in batches] == [len(part) for part in torch.arange(5).split(batch)]
    pixels = torch.cat(batches)
    assert pixels.dtype == torch.uint8
    assert np.array_equal(pixels.permute(0, 2, 3, 1), COLOURS)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff", ".PNG"])
def test_lossless_formats_give_their_pixels_back(tmp_path, suffix):
    options = {"lossless": True} if suffix == ".webp" else {}
    assert np.array_equal(only(written(tmp_path / f"0{suffix}", COLOURS[0], **options)), COLOURS[0])


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".gif"])
def test_other_formats_are_what_pil_reads(tmp_path, suffix):
    path = written(tmp_path / f"0{suffix}", COLOURS[0])
    assert np.array_equal(only(path), np.asarray(Image.open(path).convert("RGB")))


def test_grey_files_have_one_channel_unless_three_are_wanted(tmp_path):
    path = written(tmp_path / "0.png", GREYS[0])
    assert np.array_equal(only(path), GREYS[0][..., None])
    assert np.array_equal(only(path, 3), np.repeat(GREYS[0][..., None], 3, axis=2))


def test_colour_becomes_grey_only_where_that_is_wanted(tmp_path):
    path = written(tmp_path / "0.png", COLOURS[0])
    luma = COLOURS[0] @ np.array([0.299, 0.587, 0.114])
    assert np.abs(only(path, 1)[..., 0] - luma).max() <= 1


def test_a_set_has_one_channel_only_if_all_files_are_grey_whatever_their_order(tmp_path):
    grey = [written(tmp_path / f"grey{index}.png", pixels) for index, pixels in enumerate(GREYS[:3])]
    colour = [written(tmp_path / f"colour{index}.png", pixels) for index, pixels in enumerate(COLOURS[:2])]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    assert (colours(grey).channels, colours(grey).mixed) == (1, 0)
    assert (colours(colour).channels, colours(colour).mixed) == (3, 0)
    for files in ([*grey, *colour], [*colour, *grey], [broken, *grey, colour[0]]):
        assert (colours(files).channels, colours(files).mixed) == (3, 3)
    assert colours([broken]) == (0, 0)


def test_transparency_is_dropped_or_laid_over_white(tmp_path):
    alpha = np.array([[0, 128, 255]], dtype=np.uint8)
    paint = np.array([[[200, 100, 0]] * 3], dtype=np.uint8)
    path = written(tmp_path / "colour.png", np.dstack([paint, alpha]))
    assert np.array_equal(only(path), paint)
    share = alpha[..., None] / 255
    white = np.round(share * paint + (1 - share) * 255)
    assert np.abs(np.asarray(read_image(path, over_white=True)) - white).max() <= 1

    path = written(tmp_path / "grey.png", np.dstack([paint[..., 0], alpha]))
    assert np.array_equal(only(path), paint[..., :1])
    assert np.abs(np.asarray(read_image(path, over_white=True)) - white[..., 0]).max() <= 1


@pytest.mark.filterwarnings("error")
def test_palettes_are_colours_and_their_transparency_is_treated_alike(tmp_path):
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    image.save(tmp_path / "0.png", transparency=bytes([255, 0, 255]))
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]])
    assert np.array_equal(only(tmp_path / "0.png"), colours)
    colours[0, 1] = 255
    assert np.array_equal(np.asarray(read_image(tmp_path / "0.png", over_white=True)), colours)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, suffix):
    deep = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    found = only(written(tmp_path / f"0{suffix}", deep))
    assert found[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_one_bit_is_black_and_white(tmp_path):
    path = written(tmp_path / "0.png", np.array([[0, 255, 255, 0]], dtype=np.uint8), mode="1")
    assert only(path)[0, :, 0].tolist() == [0, 255, 255, 0]


def test_cmyk_is_what_pil_makes_of_it(tmp_path):
    path = written(tmp_path / "0.jpg", COLOURS[0], mode="CMYK")
    assert np.array_equal(only(path), np.asarray(Image.open(path).convert("RGB")))


def test_orientation_in_exif_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    assert only(written(tmp_path / "0.jpg", COLOURS[0], exif=exif)).shape == (6, 7, 3)


def test_an_animation_is_its_first_frame(tmp_path):
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    first.save(tmp_path / "0.gif", save_all=True, append_images=[second])
    assert (only(tmp_path / "0.gif") == (255, 0, 0)).all()


# Errors


def test_the_first_file_of_another_size_is_named(tmp_path):
    files = colour_folder(tmp_path)
    written(files[2], COLOURS[2][:, :5])
    written(files[4], COLOURS[4][:3])
    batches = image_batches(files, 2, 3)
    assert len(next(batches)) == 2
    with pytest.raises(ValueError, match=f"^{files[2]} has 5x6 pixels, {files[0]} has 7x6; nearest: "):
        next(batches)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "scrambled", "bare"])
def test_a_damaged_file_is_named(tmp_path, damage):
    files = colour_folder(tmp_path)
    whole = files[3].read_bytes()
    scrambled = whole[:40] + bytes(255 - byte for byte in whole[40:])
    parts = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"not an image\n" * 9, "bare": whole[:12]}
    files[3].write_bytes({**parts, "scrambled": scrambled}[damage])
    with pytest.raises(ValueError, match=f"^{files[3]} is no image that can be read"):
        list(image_batches(files, 2, 3))


def test_pixels_without_a_known_range_are_refused(tmp_path):
    path = written(tmp_path / "0.tif", GREYS[0].astype(np.float32))
    with pytest.raises(ValueError, match=f"{path}.*mode F.*nearest: 8 or 16 bits"):
        list(image_batches([path], 2, 1))


@pytest.mark.parametrize(("batch", "channels"), [(0, 3), (4, 2), (4, 4)])
def test_batches_of_nothing_and_strange_channels_are_refused(tmp_path, batch, channels):
    with pytest.raises(ValueError, match=f"batch={batch}, channels={channels}; nearest: batch="):
        next(image_batches(colour_folder(tmp_path), batch, channels))


def test_files_are_read_at_most_a_batch_ahead(tmp_path):
    """Memory does not grow with the number of files."""
    path = written(tmp_path / "0.png", COLOURS[0])
    taken = 0

    def many():
        nonlocal taken
        while taken < 100:
            taken += 1
            yield path

    batches = image_batches(many(), 8, 3)
    for done in range(1, 5):
        next(batches)
        assert taken <= 8 * done + 8
    batches.close()
    assert taken <= 40
