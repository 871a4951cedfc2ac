"""Whether a family's networks make the images of a data set, found out before a game begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gan_core.family import Family, place_of_net
from gan_core.nets import own_nets
from gan_core.recipe import Shape
from gan_core.settings import SettingsError, raised
from gan_core.settings.image_size import IMAGE_SIZES, LARGEST_SIDE, SMALLEST_SIDE, written_size

_UNITS = (2, 4, 8, 16, 32, 64)
_SAMPLES = 2


class _MisfitError(Exception):
    """Networks that were built and make other samples than those of the data."""


def check_networks(family: Family, shape: Shape, classes: int) -> None:
    """Builds the networks for samples of `shape`, (C, H, W) or (D,), in so many classes, and draws two samples.

    Raises SettingsError, with the nearest size that they make, for networks that cannot be built or make others.
    """
    try:
        with without_memory():
            _try(family, shape, classes)
    except SettingsError:
        raise
    except Exception:  # networks of one's own may need memory
        try:
            with torch.random.fork_rng(devices=[]):
                _try(family, shape, classes)
        except SettingsError:
            raise
        except Exception as error:  # and may raise anything
            raise _refused(family, shape, classes, error) from error


@contextmanager
def without_memory() -> Iterator[None]:
    """Networks that are built here have shapes and no weights, and draw no random numbers of the caller's."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        yield


@torch.no_grad()
def _try(family: Family, shape: Shape, classes: int) -> None:
    recipe = family.recipe(shape, classes)
    z, labels = torch.zeros(_SAMPLES, family.latent), torch.zeros(_SAMPLES, dtype=torch.int64)
    generator = recipe.generator.eval()
    samples = generator(z, labels) if recipe.conditional else generator(z)
    if tuple(samples.shape[1:]) != tuple(shape):
        raise _MisfitError(f"its generator makes {_by(tuple(samples.shape[1:]))}")
    net = getattr(family, "net", None)
    own = own_nets(net) if isinstance(net, str) else None
    if own is not None:
        scores = own.critic(shape, getattr(family, "width", 1)).eval()(torch.zeros(_SAMPLES, *shape))
        if tuple(scores.shape) != (_SAMPLES,):
            raise _MisfitError(f"its critic gives scores of shape {tuple(scores.shape)} for {_SAMPLES} images")


def _refused(family: Family, shape: Shape, classes: int, error: Exception) -> SettingsError:
    """The error of networks that do not make the samples, with the nearest size of images that they make."""
    net = getattr(family, "net", None)
    who = family.name if net is None or place_of_net(net) is None else f"family.net={net}"
    misfit = isinstance(error, _MisfitError)
    wrong = f"{who} does not make images of {_by(shape)}: {error if misfit else raised(error)}"
    size = next((size for size in _sizes(shape) if _makes(family, shape[0], size, classes)), None)
    if size is not None:
        return SettingsError(wrong, nearest=f"data.image_size={written_size(*size)}")
    if misfit:
        return SettingsError(wrong, nearest="other networks")
    return SettingsError(f"{who} cannot be built: {raised(error)}", nearest="a recipe that builds its networks")


def _makes(family: Family, channels: int, size: tuple[int, int], classes: int) -> bool:
    try:
        with without_memory():
            _try(family, (channels, *size), classes)
    except Exception:
        return False
    return True


def _sizes(shape: Shape) -> list[tuple[int, int]]:
    """Heights and widths near to those of the shape, the nearest first."""
    if len(shape) != 3:
        return []
    height, width = shape[1:]

    def near(side: int) -> set[int]:
        found = {side // unit * unit + more for unit in _UNITS for more in (0, unit)}
        return {one for one in found if SMALLEST_SIDE <= one <= LARGEST_SIDE}

    found = {(high, wide) for high in near(height) for wide in near(width)} | {(side, side) for side in IMAGE_SIZES}
    return sorted(found - {(height, width)}, key=lambda size: (abs(size[0] - height) + abs(size[1] - width), size))


def _by(shape: Shape) -> str:
    return "x".join(map(str, shape))
