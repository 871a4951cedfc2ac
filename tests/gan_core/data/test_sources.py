"""Datasets of a user's own files, and scikit-learn's photographs."""

import errno
import os
import re
import shutil

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import center_crop, resize

from gan_core import data
from gan_core.data.dataset import Dataset
from gan_core.data.sources import SOURCES
from gan_core.experiment import Data
from gan_core.settings import SettingsError
from tests.gan_core.data.written_files import class_folders, found, pictures, wanted, written


@pytest.fixture
def load(tmp_path):
    def load(**settings) -> Dataset:
        return data.load(Data(**{"image_size": 8, **settings}), tmp_path / "cache")

    return load


def refused(load, *parts: str, **settings) -> None:
    with pytest.raises(SettingsError) as caught:
        load(**settings)
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


# Folders


def test_the_class_is_the_first_folder(load, tmp_path):
    cats, dogs = pictures(5, 8, 8, 3), pictures(3, 8, 8, 3)
    root = class_folders(tmp_path / "pets", dogs=dogs[:2], cats=cats)
    written(root / "dogs" / "small" / "x.png", dogs[2])
    loaded = load(name="folder", path=root)
    assert (loaded.name, loaded.shape, loaded.classes) == ("folder", (3, 8, 8), 2)
    assert (loaded.images.dtype, loaded.labels.dtype) == (torch.float32, torch.int64)
    assert found(loaded) == wanted(np.concatenate([cats, dogs]), [0] * 5 + [1] * 3)


def test_images_without_folders_are_of_one_class(load, tmp_path):
    images = pictures(4, 8, 8, 3)
    class_folders(tmp_path, faces=images)
    loaded = load(name="folder", path=tmp_path / "faces")
    assert loaded.classes == 1
    assert found(loaded) == wanted(images, [0] * 4)


def test_an_image_beside_the_classes_is_refused(load, tmp_path):
    root = class_folders(tmp_path / "pets", cats=pictures(2, 8, 8, 3))
    written(root / "stray.png", pictures(1, 8, 8, 3)[0])
    refused(load, f"data.path={root}", "stray.png", f"nearest: {root / 'cats'}", name="folder", path=root)


def test_grey_files_alone_have_one_channel(load, tmp_path):
    greys = pictures(4, 8, 8)
    root = class_folders(tmp_path / "grey", a=greys)
    assert found(load(name="folder", path=root)) == wanted(greys, [0] * 4)
    colour = pictures(1, 8, 8, 3)
    written(root / "a" / "colour.png", colour[0])
    both = np.concatenate([np.repeat(greys[..., None], 3, axis=3), colour])
    assert found(load(name="folder", path=root)) == wanted(both, [0] * 5)


def test_what_is_transparent_is_white(load, tmp_path):
    clear = np.zeros((8, 8, 4), dtype=np.uint8)
    clear[:, 4:] = (255, 0, 0, 255)
    written(tmp_path / "set" / "0.png", clear)
    written(tmp_path / "set" / "1.png", clear)
    image = load(name="folder", path=tmp_path / "set").images[0]
    assert (image[:, :, :4] == 1).all()
    assert torch.equal(image[:, 0, 7], torch.tensor([1.0, -1.0, -1.0]))


@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (32, 32), (6, 12)])
@pytest.mark.parametrize("size", [8, 16])
def test_images_are_cropped_and_resized_as_torchvision_does_it(load, tmp_path, shape, size):
    """Within two levels, which is the error of PIL's fixed-point arithmetic."""
    image = pictures(1, *shape, 3)[0]
    for name in "ab":
        written(tmp_path / "set" / f"{name}.png", image)
    square = center_crop(torch.from_numpy(image).permute(2, 0, 1), [min(shape)] * 2)
    right = resize(square, [size, size], InterpolationMode.BICUBIC, antialias=True).float()
    loaded = (load(name="folder", path=tmp_path / "set", image_size=size).images[0] + 1) * 127.5
    assert loaded.shape == (3, size, size)
    assert (loaded - right).abs().max() <= 2


def test_a_folder_that_is_not_there_is_told(load, tmp_path):
    (tmp_path / "faces").mkdir()
    refused(load, f"{tmp_path / 'face'}", f"nearest: {tmp_path / 'faces'}", name="folder", path=tmp_path / "face")
    refused(load, "no image", str(tmp_path / "faces"), ".png", name="folder", path=tmp_path / "faces")


def test_numbers_are_classes_in_their_own_order_and_words_follow(load, tmp_path):
    names = ["11", "2", "0", "b", "10", "a", "1"]
    images = pictures(2 * len(names), 8, 8)
    root = class_folders(tmp_path / "set", **{name: images[2 * at : 2 * at + 2] for at, name in enumerate(names)})
    loaded = load(name="folder", path=root)
    assert loaded.class_names == ("0", "1", "2", "10", "11", "a", "b")
    assert found(loaded) == wanted(images, np.repeat([4, 2, 0, 6, 3, 5, 1], 2))


def test_a_class_name_is_one_line_of_text_whatever_the_folder_is_called(load, tmp_path):
    images = pictures(4, 8, 8)
    for at, name in enumerate([b"caf\xe9", "cafè noir".encode(), b"two\nlines"]):
        written(tmp_path / "set" / os.fsdecode(name) / "0.png", images[at])
    loaded = load(name="folder", path=tmp_path / "set")
    assert loaded.class_names == ("cafè noir", "caf\\udce9", "two\\nlines")
    assert found(loaded) == wanted(images[:3], [1, 0, 2])


def test_images_without_folders_have_no_class_names(load, tmp_path):
    class_folders(tmp_path, faces=pictures(4, 8, 8, 3), one=pictures(2, 8, 8))
    assert load(name="folder", path=tmp_path / "faces").class_names == ()
    shutil.rmtree(tmp_path / "faces")
    assert load(name="folder", path=tmp_path).class_names == ()  # one class is none


@pytest.mark.parametrize("first", ["grey", "colour"])
def test_grey_files_among_colour_are_noted_whichever_comes_first(load, tmp_path, first):
    names = {"grey": "a" if first == "grey" else "z", "colour": "m"}
    greys, colours = pictures(1, 8, 8), pictures(2, 8, 8, 3)
    written(tmp_path / "set" / f"{names['grey']}.png", greys[0])
    for index, pixels in enumerate(colours):
        written(tmp_path / "set" / f"{names['colour']}{index}.png", pixels)
    loaded = load(name="folder", path=tmp_path / "set")
    assert loaded.notes == ("1 of 3 images are grey: they have three equal channels here",)
    assert found(loaded) == wanted(np.concatenate([np.repeat(greys[..., None], 3, axis=3), colours]), [0] * 3)
    again = load(name="folder", path=tmp_path / "set")  # from the cache
    assert (again.notes, again.shape) == (loaded.notes, (3, 8, 8))


# Damaged files


def test_a_link_to_nothing_is_a_damaged_file(load, tmp_path):
    root = class_folders(tmp_path / "set", a=pictures(3, 8, 8), b=pictures(3, 8, 8))
    (root / "b" / "9.png").symlink_to(tmp_path / "gone.png")
    refused(load, "1 of 7", "b/9.png", "nearest: data.max_bad=1", name="folder", path=root)
    loaded = load(name="folder", path=root, max_bad=1)
    assert len(loaded.images) == 6
    (note,) = loaded.notes
    assert note.startswith("left out")
    assert "b/9.png" in note


@pytest.fixture
def damaged(tmp_path):
    """Ten images, four of them damaged."""
    root = class_folders(tmp_path / "set", a=pictures(5, 8, 8, 3), b=pictures(5, 8, 8, 3))
    for name in ("a/1", "a/4", "b/0"):
        path = root / f"{name}.png"
        path.write_bytes(path.read_bytes()[:-40])
    (root / "b" / "3.png").write_text("not an image")
    return root


def test_damaged_files_are_counted_and_named(load, damaged):
    right = ["data.max_bad=0", "4 of 10", "a/1.png", "a/4.png", "b/0.png", "and 1 more", "nearest: data.max_bad=4"]
    refused(load, *right, name="folder", path=damaged)
    refused(load, "data.max_bad=3", "4 of 10", "nearest: data.max_bad=4", name="folder", path=damaged, max_bad=3)


def test_damaged_files_are_left_out_if_that_is_allowed(load, damaged):
    loaded = load(name="folder", path=damaged, max_bad=4)
    assert loaded.labels.bincount().tolist() == [3, 3]
    assert len(loaded.images) == 6


def test_a_set_without_two_good_images_is_refused_whatever_is_allowed(load, tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.png").write_text("not an image")
    refused(load, f"data.path={tmp_path}", "0 images", "a.png", name="folder", path=tmp_path, max_bad=100)


# Withheld


def test_withheld_images_are_the_same_part_of_the_same_set(load, tmp_path):
    images = pictures(20, 8, 8, 3)
    root = class_folders(tmp_path / "set", a=images[:10], b=images[10:])
    whole = wanted(images, [0] * 10 + [1] * 10)
    parts = []
    for share, count in ((0.01, 1), (0.25, 5), (0.5, 10)):
        loaded = load(name="folder", path=root, held_out=share)
        assert (len(loaded.held_out), len(loaded.images)) == (count, 20 - count)
        assert found(loaded) == whole
        parts.append({image.numpy().tobytes() for image in loaded.held_out})
    assert parts[0] < parts[1] < parts[2]
    assert load(name="folder", path=root).held_out is None


def test_what_is_withheld_is_drawn_from_all_classes(load, tmp_path):
    root = class_folders(tmp_path / "set", a=pictures(30, 8, 8), b=pictures(30, 8, 8))
    assert (load(name="folder", path=root, held_out=0.5).held_out_labels.bincount() >= 7).all()


@pytest.mark.parametrize(
    ("count", "share", "right"), [(2, 0.5, "data.held_out=0"), (2, 0.01, "data.held_out=0"), (3, 0.5, "0.3333")]
)
def test_a_share_that_leaves_less_than_two_images_is_refused(load, tmp_path, count, share, right):
    np.savez(tmp_path / "set.npz", images=pictures(count, 8, 8))
    settings = {"name": "npz", "path": tmp_path / "set.npz"}
    refused(load, f"data.held_out={share}", f"of {count} images", right, **settings, held_out=share)
    load(**settings, held_out=float(right.rpartition("=")[2]))


# npz

COLOURS = pictures(6, 8, 8, 3)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("form", ["NHWC", "NCHW", "NHW", "NHW1", "N1HW"])
def test_arrays_in_every_form(load, tmp_path, save, form):
    images = {
        "NHWC": COLOURS,
        "NCHW": COLOURS.transpose(0, 3, 1, 2),
        "NHW": COLOURS[..., 0],
        "NHW1": COLOURS[..., :1],
        "N1HW": COLOURS[:, None, :, :, 0],
    }[form]
    save(tmp_path / "set.npz", images=images)
    loaded = load(name="npz", path=tmp_path / "set.npz")
    channels = 3 if "C" in form else 1
    assert (loaded.name, loaded.shape, loaded.classes) == ("npz", (channels, 8, 8), 1)
    assert found(loaded) == wanted(COLOURS[..., :channels], [0] * 6)


def test_labels_are_numbered_from_zero_in_their_own_order(load, tmp_path):
    np.savez(tmp_path / "set.npz", images=COLOURS, labels=np.array([7, -2, 7, 40, -2, 7], dtype=np.int16))
    loaded = load(name="npz", path=tmp_path / "set.npz")
    assert (loaded.classes, loaded.class_names) == (3, ("-2", "7", "40"))
    assert found(loaded) == wanted(COLOURS, [1, 0, 1, 2, 0, 1])


def test_a_fourth_channel_is_laid_over_white(load, tmp_path):
    clear = np.concatenate([COLOURS, np.zeros((6, 8, 8, 1), dtype=np.uint8)], axis=3)
    np.savez(tmp_path / "set.npz", images=clear)
    loaded = load(name="npz", path=tmp_path / "set.npz")
    assert loaded.shape == (3, 8, 8)
    assert (loaded.images == 1).all()


ODD_ARRAYS = {
    "floats": (dict(images=COLOURS / 255), ["'images' is float64 (6, 8, 8, 3)", "nearest: uint8 (N, H, W, C)"]),
    "flat": (dict(images=COLOURS.reshape(6, -1)), ["'images' is uint8 (6, 192)", "nearest: uint8 (N, H, W, C)"]),
    "five channels": (dict(images=pictures(6, 8, 8, 5)), ["(6, 8, 8, 5)", "nearest: uint8 (N, H, W, C), C 1, 3 or 4"]),
    "none": (dict(images=COLOURS[:0]), ["(0, 8, 8, 3)", "nearest"]),
    "one": (dict(images=COLOURS[:1]), ["1 images", "nearest: two"]),
    "another name": (dict(image=COLOURS, y=np.zeros(6)), ["no array 'images' (image, y)", "nearest: rename 'image'"]),
    "few labels": (dict(images=COLOURS, labels=np.zeros(5, int)), ["'labels' is int64 (5,)", "whole numbers (6,)"]),
    "soft labels": (dict(images=COLOURS, labels=np.zeros(6)), ["'labels' is float64 (6,)", "whole numbers (6,)"]),
    "objects": (dict(images=np.array([None])), ["no npz file of plain arrays", "nearest: np.savez"]),
}


@pytest.mark.parametrize("name", ODD_ARRAYS)
def test_odd_arrays_are_told(load, tmp_path, name):
    arrays, parts = ODD_ARRAYS[name]
    path = tmp_path / "set.npz"
    np.savez(path, **arrays)
    refused(load, f"data.path={path}", *parts, name="npz", path=path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x93NUMPY\x01\x00", b"text"])
def test_a_file_that_is_no_npz_is_told(load, tmp_path, content):
    path = tmp_path / "set.npz"
    path.write_bytes(content)
    refused(load, f"data.path={path} is no npz file", "nearest: np.savez", name="npz", path=path)


def test_a_npz_that_cannot_be_read_is_told(load, tmp_path, monkeypatch):
    def refusing(*args, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    np.savez(tmp_path / "set.npz", images=COLOURS)
    monkeypatch.setattr(np, "load", refusing)
    path = tmp_path / "set.npz"
    refused(load, f"data.path={path} cannot be read: Permission denied", f"chmod u+r {path}", name="npz", path=path)


def test_a_npz_that_is_an_npy_is_told(load, tmp_path):
    np.save(tmp_path / "set.npy", COLOURS)
    path = (tmp_path / "set.npy").rename(tmp_path / "set.npz")
    refused(load, f"data.path={path} is no npz file", name="npz", path=path)


def test_a_npz_that_is_not_there_is_told_with_the_one_that_is(load, tmp_path):
    refused(load, str(tmp_path / "no.npz"), "nearest: data.path=FILE.npz", name="npz", path=tmp_path / "no.npz")
    np.savez(tmp_path / "yes.npz", images=COLOURS)
    refused(load, f"nearest: {tmp_path / 'yes.npz'}", name="npz", path=tmp_path / "no.npz")


# Photographs


@pytest.mark.parametrize("size", [8, 32])
def test_photographs_are_colour_patches_of_two_classes(load, size):
    photos = load(name="photos", image_size=size, held_out=0.1)
    assert photos.shape == (3, size, size)
    assert len(photos.images) + len(photos.held_out) >= 4000
    assert (photos.classes, photos.class_names) == (2, ("china", "flower"))
    counts = photos.labels.bincount() + photos.held_out_labels.bincount()
    assert counts[0] == counts[1]
    assert -1 <= photos.images.min() < -0.9
    assert 0.9 < photos.images.max() <= 1


@pytest.mark.parametrize("size", [8, 256])
def test_a_patch_is_a_square_of_its_photograph_and_shows_something(size, tmp_path):
    photos = load_sample_images().images
    opened = SOURCES["photos"](Data(name="photos", image_size=size), tmp_path).open()
    for index in range(0, len(opened.labels), 97):
        patch, photo = np.asarray(opened.read(index)), photos[opened.labels[index]]
        side = len(patch)
        assert patch.shape == (side, side, 3)
        assert max(427 // 4, size) <= side <= 427 * 3 // 4
        corners = np.argwhere((photo == patch[0, 0]).all(axis=2))
        assert any(np.array_equal(photo[y : y + side, x : x + side], patch) for y, x in corners)


def test_photographs_are_the_same_in_every_cache(tmp_path):
    first, second = (data.load(Data(name="photos", image_size=8), tmp_path / name) for name in "ab")
    assert first.digest() == second.digest()
    assert re.fullmatch("[0-9a-f]{64}", first.digest())
