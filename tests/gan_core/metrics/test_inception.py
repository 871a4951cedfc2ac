import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from gan_core.metrics.extractors import inception
from gan_core.metrics.extractors.inception import (
    InceptionV3,
    fetch_weights,
    is_published,
    load_inception,
    tensorflow_resize,
)
from tests.gan_core.metrics.inception_weights import write_random_weights

SIZES = [(8, 8), (28, 28), (32, 32), (299, 299), (300, 257), (340, 512)]


def their_network(weights: Path) -> FeatureExtractorInceptionV3:
    wanted = ["2048", "logits_unbiased"]
    return FeatureExtractorInceptionV3("theirs", wanted, feature_extractor_weights_path=weights)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """Random weights in a file like the published one (95 MB)."""
    return write_random_weights(tmp_path_factory.mktemp("inception") / "random.pth")


@pytest.fixture(scope="module")
def weights(file) -> dict[str, Tensor]:
    return torch.load(file, weights_only=True)


@pytest.fixture(scope="module")
def ours(file) -> InceptionV3:
    return load_inception(file)


@pytest.fixture(scope="module")
def theirs(file) -> FeatureExtractorInceptionV3:
    return their_network(file)


def pictures(count: int, size: tuple[int, int], channels: int = 3) -> Tensor:
    """uint8 images of coarse and fine noise; they differ in brightness and contrast."""
    draw = torch.Generator().manual_seed(size[0])
    coarse = F.interpolate(torch.rand(count, channels, 3, 3, generator=draw), size, mode="bilinear")
    fine = torch.rand(count, channels, *size, generator=draw)
    return ((coarse + torch.linspace(0, 1, count)[:, None, None, None] * fine) * 127.5).round().to(torch.uint8)


def in_range(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return images.to(dtype) / 127.5 - 1


def assert_same(found: Tensor, wanted: Tensor, relative: float) -> None:
    assert_close(found, wanted, rtol=0, atol=relative * float(wanted.abs().max()))


# The network


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_features_and_logits_are_those_of_torch_fidelity(ours, theirs, size, channels):
    images = pictures(2, size, channels)
    features, logits = ours(in_range(images))
    wanted, wanted_logits = theirs(images.expand(-1, 3, -1, -1))
    assert features.shape == (2, InceptionV3.width)
    assert logits.shape == (2, InceptionV3.classes)
    assert features.dtype == logits.dtype == torch.float32
    assert_same(features, wanted, 1e-5)
    assert_same(logits, wanted_logits, 1e-5)
    apart = (wanted[0] - wanted[1]).abs().max()
    assert apart > 0.01 * wanted.max(), "two images that look alike would hide a wrong network"


def test_in_double_precision_the_formula_is_the_same_to_the_last_digits(file, weights):
    """At 299x299 nothing is resized. torch-fidelity computes positions for resizing in single precision."""
    images = pictures(2, (299, 299))
    ours, reference = InceptionV3(weights).eval(), their_network(file).double()
    reference.feature_extractor_internal_dtype = torch.float64  # its name for float64 means single precision
    found: list[Tensor] = []
    ours.body.register_forward_hook(lambda module, given, out: found.append(out.mean((2, 3))))
    reference.AvgPool.register_forward_hook(lambda module, given, out: found.append(out.flatten(1)))
    ours(in_range(images, torch.float64))
    reference(images)
    assert found[0].dtype == found[1].dtype == torch.float64
    assert_same(found[0], found[1], 1e-12)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), *SIZES, (1000, 150)])
def test_images_are_resized_as_tensorflow_1_does(size):
    images = pictures(2, size).float()
    wanted = interpolate_bilinear_2d_like_tensorflow1x(images, size=(299, 299), align_corners=False, method="slow")
    assert_close(tensorflow_resize(images)[..., :299, :299], wanted, rtol=0, atol=1e-5 * 255)


def test_a_batch_is_its_parts_in_their_order(ours, monkeypatch):
    images = in_range(pictures(5, (8, 8)))
    together = ours(images)
    monkeypatch.setattr(inception, "_AT_ONCE", 2)
    for found, wanted in zip(ours(images), together, strict=True):
        assert_same(found, wanted, 1e-5)


def test_the_network_computes_in_its_own_precision(ours, weights):
    images = in_range(pictures(2, (32, 32)))
    features, logits = InceptionV3(weights).bfloat16()(images)
    assert features.dtype == logits.dtype == torch.float32
    difference = (features - ours(images)[0]).abs().max() / features.max()
    assert 1e-4 < difference < 0.1


def test_autocast_does_not_reach_it(ours):
    images = in_range(pictures(1, (8, 8)))
    with torch.autocast("cpu", torch.bfloat16):
        inside = ours(images)
    for found, wanted in zip(inside, ours(images), strict=True):
        assert_same(found, wanted, 1e-5)


def test_the_loaded_network_learns_nothing(ours):
    assert not ours.training
    assert not any(value.requires_grad for value in ours.parameters())


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (2, 2, 8, 8), (3, 8, 8), (5, 2)])
def test_what_is_no_image_is_refused(ours, shape):
    with pytest.raises(ValueError, match=r"inception-v3 looks at images \(N, 1 or 3, H, W\), not .*; nearest: "):
        ours(torch.zeros(shape))


# Weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Mixed_7c.branch_pool.conv.weight": None}, "Mixed_7c.branch_pool.conv.weight is missing"),
        ({"Mixed_5b.branch5x5_1.bn.running_mean": None}, "Mixed_5b.branch5x5_1.bn.running_mean is missing"),
        ({"fc.bias": None}, "fc.bias is missing"),
        ({"AuxLogits.fc.bias": torch.zeros(1000)}, "AuxLogits.fc.bias is unknown"),
        ({"fc.weight": torch.zeros(1000, 2048)}, r"fc.weight is \(1000, 2048\), not \(1008, 2048\)"),
        ({"Conv2d_2a_3x3.bn.bias": torch.full((32,), torch.nan)}, "Conv2d_2a_3x3.bn.bias is not finite"),
        ({"Conv2d_2a_3x3.bn.running_var": torch.full((32,), torch.inf)}, "bn.running_var is not finite"),
        ({"Conv2d_2a_3x3.bn.running_var": torch.full((32,), -1.0)}, "bn.running_var is negative"),
    ],
)
def test_a_state_dict_of_another_network_is_refused(weights, change, message):
    changed = {name: value for name, value in {**weights, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        InceptionV3(changed)


def test_counters_of_training_are_not_needed(weights):
    InceptionV3({name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")})


def written(path: Path, kind: str) -> None:
    """A file at `path` that is no state dict of the network."""
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("404: Not Found")
    elif kind == "object":
        torch.save(threading.Event, path)
    elif kind == "half":
        torch.save({"fc.weight": torch.zeros(100)}, path)
        path.write_bytes(path.read_bytes()[:500])
    elif kind == "tensor":
        torch.save(torch.zeros(3), path)
    elif kind == "nested":
        torch.save({"state_dict": {"fc.weight": torch.zeros(3)}}, path)
    elif kind == "foreign":
        torch.save({"conv1.weight": torch.zeros(3)}, path)
    elif kind == "script":
        torch.jit.script(torch.nn.Linear(1, 1)).save(path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nothing", "No such file or directory"),
        ("folder", "Is a directory"),
        ("text", "damaged, or not of tensors alone"),
        ("object", "damaged, or not of tensors alone"),
        ("half", "damaged, or not of tensors alone"),
        ("script", "damaged, or not of tensors alone"),
        ("tensor", "a Tensor, no state dict"),
        ("nested", "a dict, no state dict"),
        ("foreign", "Conv2d_1a_3x3.conv.weight is missing"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*TorchScript")
def test_another_file_is_refused_in_one_line_that_names_it(tmp_path, kind, message):
    path = tmp_path / "some.pth"
    written(path, kind)
    with pytest.raises(ValueError, match=message) as error:
        load_inception(path)
    message = str(error.value)
    assert str(path) in message
    assert message.endswith("; nearest: weights-inception-2015-12-05-6726825d.pth")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 200


def test_the_published_file_is_the_one_torch_fidelity_fetches():
    assert inception.PUBLISHED_URL == URL_INCEPTION_V3
    assert inception.PUBLISHED_URL.endswith("/" + inception.PUBLISHED_NAME)
    beginning = inception.PUBLISHED_NAME.removesuffix(".pth").rpartition("-")[2]
    assert inception.PUBLISHED_SHA256.startswith(beginning)
    assert is_published(inception.PUBLISHED_SHA256)
    assert not is_published(hashlib.sha256(b"").hexdigest())


# Downloading weights

CONTENT = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Files(BaseHTTPRequestHandler):
    """/whole/NAME sends it all. /cut/NAME announces the full length and breaks off. /short/NAME announces no length."""

    def do_GET(self):
        kind = self.path.split("/")[1]
        self.server.asked.append(self.path)
        if kind not in ("whole", "cut", "short"):
            self.send_error(404)
            return
        self.send_response(200)
        if kind != "short":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if kind == "whole" else CONTENT[: len(CONTENT) // 2])

    def log_message(self, format, *arguments):
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as running:
        running.asked = []
        running.address = f"http://127.0.0.1:{running.server_address[1]}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_weights_are_fetched_once(server, tmp_path):
    totals, moves = [], []

    @contextmanager
    def bars(about: str, total: float):
        totals.append((about, total))
        yield moves.append

    folder = tmp_path / "not" / "there"
    url = f"{server.address}/whole/some.pth"
    path = fetch_weights(folder, url, DIGEST, bars=bars)
    assert path == folder / "some.pth"
    assert path.read_bytes() == CONTENT
    assert list(folder.iterdir()) == [path]
    assert totals == [("fetching some.pth", len(CONTENT))]
    assert sum(moves) == len(CONTENT)
    assert len(moves) > 1
    assert fetch_weights(folder, url, DIGEST) == path
    assert server.asked == ["/whole/some.pth"]


def test_a_damaged_file_is_fetched_anew(server, tmp_path):
    (tmp_path / "some.pth").write_bytes(CONTENT[:-1])
    assert fetch_weights(tmp_path, f"{server.address}/whole/some.pth", DIGEST).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("kind", "digest", "message"),
    [
        ("whole", "0" * 64, f"its sha256 is {DIGEST[:16]}..., not 0000000000000000..."),
        ("none", DIGEST, "HTTP Error 404: Not Found"),
        ("cut", DIGEST, "it broke off after 524,288 of 1,048,576 bytes"),
        ("short", DIGEST, "its sha256 is "),
    ],
    ids=["another", "none", "cut", "short"],
)
def test_what_is_not_whole_or_another_leaves_nothing_behind(server, tmp_path, kind, digest, message):
    with pytest.raises(ValueError, match=message) as error:
        fetch_weights(tmp_path, f"{server.address}/{kind}/some.pth", digest)
    assert str(error.value).endswith("; nearest: metrics.weights=FILE of some.pth")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_no_place_for_them(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="nearest: metrics.weights=FILE of some.pth"):
        fetch_weights(tmp_path / "file", f"{server.address}/whole/some.pth", DIGEST)


def test_without_a_network_it_is_said_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/some.pth"
        with pytest.raises(ValueError, match="Connection refused.*nearest: metrics.weights=FILE of some.pth"):
            fetch_weights(tmp_path, url, DIGEST)
    assert list(tmp_path.iterdir()) == []
