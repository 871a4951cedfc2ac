"""Images as Python has them, in every layout and kind, are the data set that they are in a file."""

from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from gan_core import data
from gan_core.data.loading import load_given
from gan_core.experiment import Data
from gan_core.settings import SettingsError
from tests.gan_core.data.written_files import found, pictures, wanted

COLOUR, GREY = pictures(20, 12, 16, 3), pictures(20, 12, 16)
LABELS = np.arange(20) % 3 + 5
LEVELS = np.arange(256, dtype=np.uint8).repeat(2).reshape(2, 16, 16)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path / "cache"))


class Items(Dataset):
    """A Dataset of torch with whatever items it is given."""

    classes = ("five", "six", "seven")

    def __init__(self, item: Callable[[int], Any], count: int = 20) -> None:
        self.item, self.count = item, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.item(index)


def hugging_face(**columns: Any) -> datasets.Dataset:
    features = {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=list(Items.classes))}
    rows = {"picture": [Image.fromarray(pixels) for pixels in COLOUR], "kind": (LABELS - 5).tolist(), **columns}
    features |= {name: datasets.Value("int64") for name in columns}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


def first_channels(pixels: np.ndarray) -> np.ndarray:
    return np.moveaxis(pixels, -1, 1)


@pytest.mark.parametrize(
    ("given", "pixels"),
    [
        ((COLOUR, LABELS), COLOUR),
        ((torch.from_numpy(first_channels(COLOUR)), LABELS.tolist()), COLOUR),
        ((COLOUR / 255, torch.tensor(LABELS)), COLOUR),
        ((torch.from_numpy(first_channels(COLOUR)).half() / 127.5 - 1, LABELS[:, None]), None),
        ((torch.from_numpy(first_channels(COLOUR)) / 127.5 - 1, LABELS), COLOUR),
        ((GREY, LABELS), GREY),
        ((GREY[:, None], LABELS), GREY),
        ((torch.from_numpy(GREY[..., None]).bfloat16() / 256, LABELS), None),
        (([Image.fromarray(one) for one in GREY], LABELS), GREY),
        (Items(lambda i: (Image.fromarray(COLOUR[i]), int(LABELS[i]) - 5)), COLOUR),
        (Items(lambda i: (torch.from_numpy(COLOUR[i]).permute(2, 0, 1) / 255, torch.tensor(LABELS[i] - 5))), COLOUR),
        (Subset(Items(lambda i: (COLOUR[19 - i], [LABELS[19 - i] - 5])), range(19, -1, -1)), COLOUR),
        (TensorDataset(torch.from_numpy(GREY), torch.from_numpy(LABELS)), GREY),
        (hugging_face(), COLOUR),
        (hugging_face(width=[16] * 20).with_format("numpy"), COLOUR),
    ],
)
def test_each_kind_is_the_data_set_of_its_npz_file(given, pixels, tmp_path):
    loaded = load_given("data", given)
    assert sorted(loaded.labels.tolist()) == sorted((LABELS - 5).tolist())
    assert loaded.class_names in (("5", "6", "7"), ("five", "six", "seven"))
    if pixels is None:  # floats of 16 bits have fewer levels than bytes
        assert loaded.shape in ((3, 12, 16), (1, 12, 16))
        return
    np.savez(tmp_path / "same.npz", images=pixels, labels=LABELS)
    file = data.load(Data(name="npz", path=tmp_path / "same.npz", image_size="12x16"))
    assert loaded.digest() == file.digest()
    assert found(loaded) == wanted(pixels, LABELS - 5)


def test_all_levels_of_both_ranges_of_floats_are_bytes_again():
    floats = LEVELS / np.float32(255)
    for given in (LEVELS, floats, floats.astype(np.float64), floats * 2 - 1, np.clip(floats + 2e-4, 0, 1.0002)):
        assert found(load_given("data", given)) == wanted(LEVELS, [0, 0])


def test_a_dataset_is_read_once_and_in_order():
    asked = []
    load_given("data", Items(lambda i: asked.append(i) or GREY[i]))
    assert asked == list(range(20))


def test_images_of_other_sizes_are_cut_as_those_of_a_file(tmp_path):
    np.savez(tmp_path / "same.npz", images=COLOUR)
    file = data.load(Data(name="npz", path=tmp_path / "same.npz", image_size="8x10"))
    assert load_given("data", COLOUR, "8x10").digest() == file.digest()
    mixed = [Image.fromarray(COLOUR[0]), Image.fromarray(COLOUR[1, :, :12])]
    assert load_given("data", mixed, 12).shape == (3, 12, 12)
    with pytest.raises(SettingsError, match=r"2 sizes, such as 12x16 and 12x12; nearest: data.image_size=12x16"):
        load_given("data", mixed)


def test_grey_images_among_colour_have_three_equal_channels():
    loaded = load_given("data", [COLOUR[0], GREY[1]])
    assert loaded.shape == (3, 12, 16)
    assert any("grey" in note for note in loaded.notes)


def test_names_of_a_class_without_images_are_kept():
    labels = np.zeros(20, int)
    loaded = load_given("data", hugging_face().remove_columns("kind").add_column("label", labels))
    assert (loaded.classes, loaded.class_names) == (1, ())
    loaded = load_given("data", Items(lambda i: (GREY[i], 0)))
    assert (loaded.classes, loaded.class_names) == (3, ("five", "six", "seven"))


def broken(index: int) -> Any:
    raise KeyError("lost")


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (COLOUR[..., :2], r"uint8 \(20, 12, 16, 2\), not images; nearest: \(N, H, W\), "),
        (COLOUR.astype(float), "floats from 0 to 255; nearest: uint8, or divide by 255"),
        (GREY * np.float32("nan"), "floats from nan to nan; nearest: floats from 0 to 1"),
        (GREY.astype(np.int64), "int64, which has no known range; nearest: uint8 from 0 to 255"),
        (GREY > 9, "bool, which has no known range; nearest: uint8"),
        (GREY[:0], "no images"),
        (GREY[:1], "one image; nearest: two or more"),
        (GREY[:, :4], "images of 4x16: .*; nearest: data.image_size=8x16"),
        ([], "no images"),
        ((GREY, LABELS[:5]), r"'labels' is int64 \(5,\); nearest: whole numbers \(20,\)"),
        ((GREY, LABELS / 2), "'labels' is float64"),
        ((GREY, [[1], [2, 3]]), "'labels' is object"),
        ((GREY, LABELS, LABELS), r"a tuple of 3; nearest: \(images, labels\)"),
        ("folder", "the text 'folder', no images; nearest: a tensor or an array"),
        (None, "None; nearest: a tensor or an array"),
        (np.zeros, "which has no length; nearest: what it returns"),
        (Image.fromarray(GREY[0]), "one image; nearest: a list of images"),
        (DataLoader(Items(lambda i: GREY[i])), "DataLoader, which draws batches; nearest: its .dataset"),
        ((image for image in GREY), r"generator, which has no length; nearest: list\(...\) of it"),
        (datasets.DatasetDict(train=hugging_face()), r"DatasetDict of train; nearest: its part \['train'\]"),
        (hugging_face().remove_columns("picture"), r"no column of images \(kind\); nearest: cast_column"),
        (Items(broken), r"\[0\] raises KeyError: 'lost' \(test_given.py:\d+\)"),
        (Items(lambda i: (GREY[i], i, i)), r"\[0\] is tuple of 3; nearest: image, or \(image, label\)"),
        (Items(lambda i: {"image": GREY[i]}), r"\[0\] is dict of image; nearest: image, or \(image, label\)"),
        (Items(lambda i: (GREY[i], -1)), "label -1 and 3 classes; nearest: labels from 0 to 2"),
        (Items(lambda i: (GREY[i], None if i == 7 else 1)), r"\[7\] has no label, others have"),
        ((Items(lambda i: (GREY[i], 1)), LABELS), "labels of its own"),
    ],
)
def test_what_holds_no_images_is_named_with_what_does(given, wrong):
    with pytest.raises(SettingsError, match=wrong):
        load_given("data", given)
