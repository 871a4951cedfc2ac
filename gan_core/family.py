"""A family's settings ARE its hyper-parameters; families are the files of `gan_core/families`.

Importing a family does not import torch: only `recipe()` does. So the command line, `--dry-run` and a
search's driver know every setting and range at once.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from gan_core.settings import Settings, SettingsError, nearest, unknown

if TYPE_CHECKING:
    from gan_core.recipe import Recipe, Shape

LearningRate = Annotated[float, Field(ge=1e-8, le=1.0)]
Beta = Annotated[float, Field(ge=0.0, le=0.9999)]
Clip = Annotated[float, Field(ge=1e-6, le=100.0)]
Weight = Annotated[float, Field(ge=0.0, le=1e4)]
Steps = Annotated[int, Field(ge=1, le=100)]
Width = Annotated[int, Field(ge=1, le=8192)]
Latent = Annotated[int, Field(ge=1, le=4096)]
NetName = Literal["auto", "mlp", "dcgan", "resnet"]
"""auto: dcgan for images, mlp for points. Convolutions (dcgan, resnet) play on images alone."""


Kernels = Annotated[int, Field(ge=0, le=1024)]
"""Features of minibatch discrimination (Salimans et al. 2016, section 3.2) that the critic sees; 0: none."""


class Family(Settings):
    """Base of all families: the fields that every generator has.

    A subclass adds its own hyper-parameters and `recipe`. Its file's name is its name everywhere: on the
    command line, in YAML and in MLflow.
    """

    name: ClassVar[str]
    needs_labels: ClassVar[bool] = False
    """Whether data of one class alone is refused."""
    real_or_fake: ClassVar[str | None] = None
    """The metric that is the critic's cross entropy of real against fake, -log D(x) - log(1 - D(G(z))); None where
    the critic does not judge so."""

    latent: Latent = 64
    """Dimension of z ~ N(0, I)."""
    ema: Annotated[float, Field(ge=0.0, le=0.99999)] = 0.995
    """Decay per round of the generator's running average, which is what is sampled and scored; 0: none."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = cls.__module__.rpartition(".")[2]

    def plays_on_points(self) -> bool:
        """Whether these settings can play on points, not images alone."""
        return True

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        """Networks, losses and optimisers for data of `shape` (without the batch axis) in `classes` classes (1:
        unlabelled), randomly initialised."""
        raise NotImplementedError

    @model_serializer(mode="wrap")
    def _named(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"name": self.name, **handler(self)}


class InstanceNoiseFamily(Family):
    """Base of families whose critic may see all samples through noise that fades (instance noise)."""

    instance_noise: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0
    """Deviation at the start, in units of the samples; 0: none."""
    noise_rounds: Annotated[int, Field(ge=1, le=10**9)] = 1000
    """Rounds after which it is gone."""

    @model_validator(mode="after")
    def _noise_rounds_apply(self) -> InstanceNoiseFamily:
        if not self.instance_noise and self.noise_rounds != InstanceNoiseFamily.model_fields["noise_rounds"].default:
            raise SettingsError(
                f"family.noise_rounds={self.noise_rounds} has no meaning with family.instance_noise=0; "
                "nearest: family.instance_noise=0.1"
            )
        return self


def family_names() -> list[str]:
    """The names of all families, without importing any."""
    from gan_core import families

    return sorted(module.name for module in pkgutil.iter_modules(families.__path__))


@cache
def family_class(name: str) -> type[Family]:
    """The family of that name. Raises SettingsError with the nearest name."""
    if name not in family_names():
        raise SettingsError(unknown("family", name, family_names()))
    module = importlib.import_module(f"gan_core.families.{name}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Family) and value.__module__ == module.__name__
    ]
    assert len(found) == 1, f"{module.__name__} must define one Family, found {found}"
    return found[0]


def build_family(value: Any) -> Family:
    """A family from `{"name": ..., field: ...}`, or itself. Raises SettingsError."""
    if isinstance(value, Family):
        return value
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict) or "name" not in value:
        raise SettingsError(f"family needs a name; known: {', '.join(family_names())}")
    family = family_class(str(value["name"]))
    fields = {key: given for key, given in value.items() if key != "name"}
    for key in fields.keys() - family.model_fields.keys():
        raise SettingsError(_unknown_field(family, key))
    return family.load(fields, prefix="family.")


def _unknown_field(family: type[Family], key: str) -> str:
    """A field that this family lacks: who has it, and what is nearest here."""
    own = sorted(family.model_fields)
    owners = [name for name in family_names() if key in family_class(name).model_fields]
    whose = f" (a setting of {', '.join(owners)})" if owners else ""
    shared = set(family_class(owners[0]).model_fields) if owners else set()
    right = nearest(key, [name for name in own if name not in shared] or own)
    return f"unknown setting 'family.{key}' of {family.name}{whose}; nearest: family.{right} (known: {', '.join(own)})"
