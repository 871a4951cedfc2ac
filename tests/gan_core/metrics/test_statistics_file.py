"""Statistics files: those of pytorch-fid are read, ours are read by it, and other files give errors with a reason."""

import io
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from gan_core.metrics.fid import Gaussian
from gan_core.metrics.statistics.statistics_file import read_statistics, write_statistics


def statistics(size: int = 6) -> tuple[np.ndarray, np.ndarray]:
    values = np.random.default_rng(0).normal(3, 2, (50, size)) ** 3
    return values.mean(axis=0), np.cov(values, rowvar=False)


def written(path: Path, **arrays) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def test_a_file_in_pytorch_fids_form_is_read(tmp_path):
    mu, sigma = statistics()
    found, about = read_statistics(written(tmp_path / "a.npz", mu=mu, sigma=sigma))
    assert np.array_equal(found.mean.numpy(), mu)
    assert np.array_equal(found.covariance.numpy(), sigma)
    assert about == {}


def test_what_is_written_numpy_reads_and_so_do_we(tmp_path):
    mu, sigma = statistics()
    about = {
        "extractor": "inception",
        "weights": "3f1a",
        "samples": "50",
        "note": "naïve λ, 2 lines\nof it",
        "none": "",
    }
    write_statistics(tmp_path / "a.npz", Gaussian(torch.from_numpy(mu), torch.from_numpy(sigma)), about)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert np.array_equal(file["mu"], mu)
        assert np.array_equal(file["sigma"], sigma)
        assert file["mu"].dtype == file["sigma"].dtype == np.float64
        assert str(file["samples"]) == "50"
    found, again = read_statistics(tmp_path / "a.npz")
    assert_close(found.covariance, torch.from_numpy(sigma), rtol=0, atol=0)
    assert again == about


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ">f8", ">f4"])
def test_other_precisions_become_float64(tmp_path, dtype):
    mu, sigma = statistics()
    sigma32 = sigma.astype(dtype)
    sigma32[0, 1] *= 1 + 1e-6  # a float32 product is symmetric only up to rounding
    found, _ = read_statistics(written(tmp_path / "a.npz", mu=mu.astype(dtype), sigma=sigma32))
    assert found.mean.dtype == found.covariance.dtype == torch.float64
    assert torch.equal(found.covariance, found.covariance.T)
    tolerance = float(np.finfo(dtype).eps)
    assert_close(found.covariance.numpy(), sigma, rtol=2 * max(tolerance, 1e-6), atol=0)
    assert_close(found.mean.numpy(), mu, rtol=tolerance, atol=0)


def test_what_else_a_file_holds_is_passed_over(tmp_path):
    mu, sigma = statistics()
    others = {"features": np.zeros((9, 6)), "count": np.array(9), "large": np.array("x" * 20000)}
    objects = {"objects": np.array([{}], dtype=object)}
    found, about = read_statistics(written(tmp_path / "a.npz", mu=mu, sigma=sigma, by="us", **others, **objects))
    assert about == {"by": "us"}
    assert len(found.mean) == 6


MU, SIGMA = statistics(4)
INDEFINITE = SIGMA.copy()
INDEFINITE[2, 2] = -1.5
LOPSIDED = SIGMA.copy()
LOPSIDED[0, 1] += 0.01 * SIGMA.max()
HOLED = SIGMA.copy()
HOLED[1, 1] = np.nan
BROKEN = {
    "holds m, s; wanted: an npz of mu (D,) and sigma (D, D)": {"m": MU, "s": SIGMA},
    "holds count, mu; wanted": {"mu": MU, "count": np.array(3)},
    "holds nothing; wanted": {},
    "mu is of shape (4,), sigma of (3, 3); wanted: (D,) and (D, D)": {"mu": MU, "sigma": SIGMA[:3, :3]},
    "mu is of shape (4,), sigma of (4,)": {"mu": MU, "sigma": SIGMA.diagonal()},
    "mu is of shape (1, 4), sigma of (4, 4)": {"mu": MU[None], "sigma": SIGMA},
    "mu is of shape (0,), sigma of (0, 0)": {"mu": MU[:0], "sigma": SIGMA[:0, :0]},
    "sigma holds 1 values that are not finite": {"mu": MU, "sigma": HOLED},
    "mu holds 4 values that are not finite": {"mu": MU * np.inf, "sigma": SIGMA},
    "sigma differs from its transpose by up to": {"mu": MU, "sigma": LOPSIDED},
    "sigma holds a variance of -1.5; wanted: 0 or more": {"mu": MU, "sigma": INDEFINITE},
    "mu holds no real numbers": {"mu": np.array(["a"] * 4), "sigma": SIGMA},
    "sigma holds no real numbers": {"mu": MU, "sigma": SIGMA + 0j},
}


@pytest.mark.parametrize("problem", BROKEN)
def test_what_is_no_mean_and_covariance_is_an_error_that_says_why(tmp_path, problem):
    path = written(tmp_path / "a.npz", **BROKEN[problem])
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}.*{re.escape(problem)}") as caught:
        read_statistics(path)
    assert "\n" not in str(caught.value)


def of_bytes() -> dict[str, bytes]:
    """Files that are no npz of arrays, or incomplete."""
    whole, array, shell = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(whole, mu=MU, sigma=SIGMA)
    np.save(array, SIGMA)
    with zipfile.ZipFile(shell, "w") as folder:
        folder.writestr("mu", "text")
        folder.writestr("sigma", "text")
    content = whole.getvalue()
    turned = bytearray(content)
    turned[content.index(SIGMA.tobytes()) + 5] ^= 1
    return {
        "truncated": content[: len(content) // 2],
        "without its end": content[:-1],
        "one bit turned": bytes(turned),
        "empty": b"",
        "text": b"mu, sigma",
        "an npy": array.getvalue(),
        "a pickle": pickle.dumps({"mu": MU, "sigma": SIGMA}),
        "a zip of text": shell.getvalue(),
    }


@pytest.mark.parametrize("kind", of_bytes())
def test_what_is_no_whole_npz_is_an_error(tmp_path, kind):
    path = tmp_path / "a.npz"
    path.write_bytes(of_bytes()[kind])
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}.*; wanted: an npz of mu"):
        read_statistics(path)


@pytest.mark.parametrize("path", ["missing.npz", "."])
def test_no_file_is_an_error(tmp_path, path):
    with pytest.raises(ValueError, match="no such file; wanted: an npz of mu"):
        read_statistics(tmp_path / path)


class Touch:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_inside_is_never_run(tmp_path):
    trap = np.array([Touch(tmp_path / "ran")], dtype=object)
    path = written(tmp_path / "a.npz", mu=trap, sigma=SIGMA, extra=trap)
    with pytest.raises(ValueError, match="a.npz is no npz or a damaged one: Object arrays cannot be loaded"):
        read_statistics(path)
    read_statistics(written(path, mu=MU, sigma=SIGMA, extra=trap))
    assert not (tmp_path / "ran").exists()
    with np.load(path, allow_pickle=True) as file:
        assert len(file["extra"]) == 1
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("failure", [OSError("no space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("before", [True, False])
def test_a_write_that_fails_in_the_middle_leaves_what_was_there(tmp_path, monkeypatch, failure, before):
    path = tmp_path / "a.npz"
    gaussian = Gaussian(torch.from_numpy(MU), torch.from_numpy(SIGMA))
    if before:
        write_statistics(path, gaussian, {"samples": "1"})
    kept = path.read_bytes() if before else None

    def fail(file, array, *_, **__):
        file.write(b"half")
        raise failure

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(type(failure)):
        write_statistics(path, gaussian, {"samples": "2"})
    assert [each.name for each in tmp_path.iterdir()] == ["a.npz"] * before
    assert not before or path.read_bytes() == kept
