"""A size that networks do not make is refused before a game begins, with the nearest that they make."""

import re
import sys
from importlib import invalidate_caches

import pytest
import torch

from gan_core.family import Family, build_family, family_class, family_names
from gan_core.nets.check import check_networks
from gan_core.settings import SettingsError
from gan_core.settings.image_size import size_of
from tests.gan_core.families.test_foreign_family import OWN_NETS
from tune_spaces.fields import field_range

SIZES = [(48, 48), (64, 128), (9, 9), (50, 50), (37, 41), (10, 12), (511, 300), (8, 512)]
CODE = (
    OWN_NETS
    + """
made = generator

class Fixed:
    def generator(self, latent, shape, width):
        return made(latent, (shape[0], 32, 32), width)
    critic = staticmethod(critic)

class Picky(Both):
    def generator(self, latent, shape, width):
        if shape[1] % 16 or shape[2] % 16:
            raise ValueError("sides of 16 only")
        return made(latent, shape, width)

class Refusing(Both):
    def generator(self, latent, shape, width):
        from gan_core.settings import SettingsError
        raise SettingsError("these networks are for faces", nearest="data=faces")

class Flat(Both):
    def critic(self, shape, width):
        return nn.Flatten()

class Unmade(Both):
    def generator(self, latent, shape, width):
        raise RuntimeError("no networks today")

class Grey(Both):
    def generator(self, latent, shape, width):
        return made(latent, (1, *shape[1:]), width)

class OnCpu(Both):
    def generator(self, latent, shape, width):
        net = made(latent, shape, width)
        float(next(net.parameters()).sum())  # meta tensors have no values
        return net
"""
)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    (tmp_path / "nets_elsewhere.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    invalidate_caches()
    yield
    sys.modules.pop("nets_elsewhere", None)


def tiny(name: str, **fields: object) -> Family:
    sizes = {"latent": 8, "width": 4, "critic_width": 4, **fields}
    known = family_class(name).model_fields
    return build_family({"name": name, **{key: value for key, value in sizes.items() if key in known}})


def variants() -> list[Family]:
    found = []
    for name in family_names():
        kind = family_class(name)
        nets = field_range(kind, "net").words if "net" in kind.model_fields else [""]
        found += [tiny(name, **({"net": net} if net else {})) for net in nets if net != "auto"]
    return found


def _refusal(family: Family, size: tuple[int, int]) -> SettingsError | None:
    try:
        check_networks(family, (3, *size), classes=2)
    except SettingsError as error:
        return error
    return None


@pytest.mark.parametrize("family", variants(), ids=lambda family: f"{family.name}-{getattr(family, 'net', '')}")
def test_the_nearest_size_is_one_that_is_made(family):
    refused = [size for size in SIZES if _refusal(family, size) is not None]
    assert len(refused) <= len(SIZES) - 2
    for size in refused:
        right = re.search(r"data.image_size=(\S+)$", str(_refusal(family, size)))
        assert right is not None, size
        check_networks(family, (3, *size_of(right[1])), classes=2)
    check_networks(family, (1, 48, 48), classes=2)
    check_networks(family, (3, 64, 128), classes=2)


@pytest.mark.parametrize(
    ("net", "size", "said"),
    [
        (
            "Fixed",
            (48, 64),
            "does not make images of 3x48x64: its generator makes 3x32x32; nearest: data.image_size=32",
        ),
        (
            "Picky",
            (40, 33),
            r"sides of 16 only \(nets_elsewhere.py:\d+\); nearest: data.image_size=32",
        ),
        (
            "Picky",
            (50, 128),
            r"ValueError: sides of 16 only .*; nearest: data.image_size=48x128",
        ),
        ("Flat", (16, 16), "its critic gives scores of shape .2, 768. for 2 images; nearest: other networks"),
        (
            "Unmade",
            (16, 16),
            "cannot be built: RuntimeError: no networks today .*; nearest: a recipe that builds its networks",
        ),
        ("Grey", (16, 16), "its generator makes 1x16x16; nearest: other networks"),
    ],
)
def test_own_networks_that_do_not_make_it_are_named_with_what_they_make(elsewhere, net, size, said):
    family = tiny("wgan_gp", net=f"nets_elsewhere:{net}")
    with pytest.raises(SettingsError, match=f"^family.net=nets_elsewhere:{net} .*{said}$"):
        check_networks(family, (3, *size), classes=1)


def test_what_own_networks_refuse_in_a_line_is_said_as_they_say_it(elsewhere):
    with pytest.raises(SettingsError, match="^these networks are for faces; nearest: data=faces$"):
        check_networks(tiny("wgan_gp", net="nets_elsewhere:Refusing"), (3, 16, 16), classes=1)


@pytest.mark.parametrize("net", ["nets_elsewhere:Both", "nets_elsewhere:OnCpu"])
def test_networks_that_fit_pass_and_nothing_is_drawn_from_torchs_state(elsewhere, net):
    before = torch.get_rng_state()
    check_networks(tiny("wgan_gp", net=net), (3, 24, 40), classes=1)
    assert torch.equal(torch.get_rng_state(), before)
