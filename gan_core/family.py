"""`Family`: the base of all families. A family's settings are its hyper-parameters; each file below
`gan_core/families` defines one.

Importing a family does not import torch; only `recipe()` does. So the command line, `--dry-run` and a search's driver
know every setting and range at once.
"""

from __future__ import annotations

import importlib
import pkgutil
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from gan_core.settings import IMPORT_PATH, Settings, SettingsError, imported, installed, nearest_key, similar, unknown

if TYPE_CHECKING:
    from gan_core.recipe import Recipe, Shape

# Types of the hyper-parameters that several families share. Each carries the description of its field; a docstring
# below a field takes precedence.
LearningRate = Annotated[float, Field(ge=1e-8, le=1.0, description="Learning rate.")]
CriticLearningRate = Annotated[
    float, Field(ge=0.0, le=1.0, description="Learning rate of the critic; 0: the same as the generator's, `lr`.")
]
Beta1 = Annotated[float, Field(ge=0.0, le=0.9999, description="Decay of Adam's average of gradients.")]
Beta2 = Annotated[float, Field(ge=0.0, le=0.9999, description="Decay of Adam's average of squared gradients.")]
Weight = Annotated[float, Field(ge=0.0, le=1e4)]
PenaltyWeight = Annotated[Weight, Field(description="Weight of the gradient penalty.")]
CriticSteps = Annotated[int, Field(ge=1, le=100, description="Critic steps per round.")]
Width = Annotated[
    int,
    Field(ge=1, le=8192, description="Channels next to the image; an MLP has 16 times as many hidden units."),
]
Latent = Annotated[int, Field(ge=1, le=4096, description="Dimension of z.")]
MinibatchFeatures = Annotated[
    int,
    Field(
        ge=0,
        le=1024,
        description="Features of minibatch discrimination in the critic (Salimans et al. 2016, section 3.2); 0: none.",
    ),
]
NETS = ("auto", "mlp", "dcgan", "resnet", "infogan")
IMAGE_NETS = ("dcgan", "resnet", "infogan")
"""Those that take images only."""


@dataclass(frozen=True)
class Words:
    """In a text field's annotation: words that it takes, which a search may choose from."""

    known: tuple[str, ...]
    joined: bool = False
    """Whether the field also takes several of the words joined by +, each once; the first word stands alone."""

    def __contains__(self, value: object) -> bool:
        if value in self.known or not (self.joined and isinstance(value, str)):
            return value in self.known
        parts = value.split("+")
        return set(parts) <= set(self.known[1:]) and len(set(parts)) == len(parts)


def _known_net(name: str) -> str:
    known = (*NETS, *installed("nets"))
    if name not in known and not IMPORT_PATH.fullmatch(name):
        raise SettingsError(unknown("family.net", name, known))
    return name


Net = Annotated[
    str,
    Words(NETS),
    AfterValidator(_known_net),
    Field(
        description="Kind of networks; auto: dcgan for images, mlp for points. dcgan, resnet and infogan take images"
        " only. Your own: package.module:Name, with generator(latent, shape, width) and critic(shape, width)."
    ),
]


NOISES = ("normal", "uniform")


def _known_noise(name: str) -> str:
    if name not in NOISES:
        raise SettingsError(unknown("family.z", name, NOISES))
    return name


Noise = Annotated[
    str,
    Words(NOISES),
    AfterValidator(_known_noise),
    Field(description="What the values of z are drawn from: N(0, 1) (normal), or -1 to 1 (uniform)."),
]


def place_of_net(name: str) -> str | None:
    """Where the user's networks of that name are, `package.module:Name`; None if the name is of ours."""
    place = installed("nets").get(name, name)
    return place if IMPORT_PATH.fullmatch(place) else None


class Family(Settings):
    """Base of all families, with the fields that every family has.

    A subclass adds its own hyper-parameters and `recipe`. It has one name everywhere, on the command line, in YAML and
    in MLflow: the name of its file below `gan_core/families`, the name of its entry point, or else
    `package.module:Class`.
    """

    name: ClassVar[str]
    normal_z: ClassVar[bool] = False
    """Whether the family is about z ~ N(0, I), so that no other z is drawn."""
    needs_labels: ClassVar[bool] = False
    """Whether the family needs data of two classes or more."""
    real_or_fake: ClassVar[str | None] = None
    """Name of the metric that holds the critic's cross entropy of real against fake, -log D(x) - log(1 - D(G(z)));
    None if the critic has no such loss."""
    truncates_w: ClassVar[bool] = False
    """Whether samples are truncated in w, by a last argument of the generator, psi, instead of in z."""

    latent: Latent = 64
    z: Noise = "normal"
    ema: Annotated[float, Field(ge=0.0, le=0.99999)] = 0.995
    """Decay per round of the generator's running average, which is what is sampled and measured; 0: no average."""
    ema_half_life: Annotated[int, Field(ge=0, le=10**9)] = 0
    """Real images after which an old weight counts half in the running average; 0: `ema` says it by round."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        ours = cls.__module__.startswith("gan_core.families.")
        cls.name = cls.__module__.rpartition(".")[2] if ours else f"{cls.__module__}:{cls.__qualname__}"

    @model_validator(mode="after")
    def _z_is_drawn(self) -> Family:
        if self.normal_z and self.z != "normal":
            raise SettingsError(f"family.z={self.z} of {self.name}, which maps N(0, I) to samples", "family.z=normal")
        return self

    @model_validator(mode="after")
    def _one_average(self) -> Family:
        if self.ema_half_life and self.ema != type(self).model_fields["ema"].default:
            raise SettingsError(
                f"family.ema={self.ema} has no meaning with family.ema_half_life={self.ema_half_life}",
                nearest="family.ema_half_life=0",
            )
        return self

    def decay(self, images_per_round: int) -> float:
        """Decay per round of the running average."""
        return 0.5 ** (images_per_round / self.ema_half_life) if self.ema_half_life else self.ema

    def plays_on_points(self) -> bool:
        """Whether the networks of these settings take points as well as images."""
        return True

    def without_meaning(self) -> dict[str, tuple[str, str]]:
        """Fields that change nothing with these settings, and the field that would give each a meaning, with its value:
        `{"beta1": ("optimizer", "adam")}`. They are neither set nor searched."""
        return {}

    @model_validator(mode="after")
    def _all_have_meaning(self) -> Family:
        for field, (other, right) in self.without_meaning().items():
            value = getattr(self, field)
            if value != type(self).model_fields[field].default:
                shown = str(value).lower() if isinstance(value, bool) else value
                raise SettingsError(
                    f"family.{field}={shown} has no meaning with family.{other}={getattr(self, other)}",
                    nearest=f"family.{other}={right}",
                )
        return self

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        """Networks, losses and optimisers for samples of `shape`, (C, H, W) or (D,), in `classes` classes (1:
        unlabelled). The networks are initialised from torch's global random state."""
        raise NotImplementedError

    @model_serializer(mode="wrap")
    def _named(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"name": self.name, **handler(self)}


def family_names() -> list[str]:
    """The names of all families, ours and those of installed packages. Imports none of them."""
    return sorted({*_built_in(), *installed("families")})


def is_family_name(name: str) -> bool:
    """Whether a family has that name, or the name is a place of one, `package.module:Class`. Imports nothing."""
    return name in family_names() or IMPORT_PATH.fullmatch(name) is not None


def _built_in() -> dict[str, str]:
    """The module of each family of ours by its name. Imports none of them."""
    from gan_core.families import adversarial, autoencoding, conditional

    groups = (adversarial, autoencoding, conditional)
    return {
        module.name: f"{group.__name__}.{module.name}"
        for group in groups
        for module in pkgutil.iter_modules(group.__path__)
    }


def family_class(name: str) -> type[Family]:
    """The family of that name, or at the place `package.module:Class`.

    Raises SettingsError with the nearest name if there is none, and with the reason if it cannot be imported.
    """
    if IMPORT_PATH.fullmatch(name):
        return _family_at(name)
    with suppress(KeyError):
        return _family_in(name)
    if name in installed("families"):
        found = _family_at(installed("families")[name])
        found.name = name
        return found
    raise SettingsError(unknown("family", name, family_names()))


def _family_at(path: str) -> type[Family]:
    found = imported("family", path)
    if not isinstance(found, type) or not issubclass(found, Family):
        raise SettingsError(f"family={path} is no Family", nearest=f"class {path.rpartition(':')[2]}(Family)")
    return found


@cache
def _family_in(name: str) -> type[Family]:
    """The family of ours of that name. Raises KeyError."""
    module = importlib.import_module(_built_in()[name])
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Family) and value.__module__ == module.__name__
    ]
    assert len(found) == 1, f"{module.__name__} must define one Family, found {found}"
    return found[0]


def build_family(value: Any) -> Family:
    """A family from a name or `{"name": ..., field: ...}`; a family is returned as it is. Raises SettingsError."""
    if isinstance(value, Family):
        return value
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict) or "name" not in value:
        raise SettingsError(f"family needs a name; known: {', '.join(family_names())}")
    family = family_class(str(value["name"]))
    fields = {key: given for key, given in value.items() if key != "name"}
    for key in fields.keys() - family.model_fields.keys():
        raise _unknown_field(family, key)
    return family.load(fields, prefix="family.")


def _unknown_field(family: type[Family], key: str) -> SettingsError:
    """The error for a field that this family lacks: which families have it, and the nearest field here."""
    own = sorted(family.model_fields)
    owners = [name for name in sorted(_built_in()) if key in family_class(name).model_fields]
    whose = f" (a setting of {', '.join(owners)})" if owners else ""
    found = similar(key, own)
    if found is not None:
        right = f"family.{found} (known: {', '.join(own)})"
    elif owners:
        right = f"leave it out, or family {' or '.join(owners)}"
    else:
        right = nearest_key(f"family.{key}", [f"family.{name}" for name in own])
    return SettingsError(f"unknown setting 'family.{key}' of {family.name}{whose}", nearest=right)
