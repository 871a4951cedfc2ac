"""The bases: fields, and which of their values have a meaning together."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from gan_core.family import Family, Weight, Words
from gan_core.settings import SettingsError, similar, unknown

NO_AUGMENTATION = "none"
AUGMENTATIONS = (NO_AUGMENTATION, "flip", "colour", "translation", "cutout")


def _known_transforms(given: object) -> str:
    words = Words(AUGMENTATIONS, joined=True)
    text = ",".join(map(str, given)) if isinstance(given, list | tuple) else str(given)
    if text in words:
        return text
    parts = [part for part in re.split(r"[^\w-]+", text) if part]
    parts = [part for part in parts if part != NO_AUGMENTATION] or parts
    meant = {part: similar(part, AUGMENTATIONS[1:]) for part in parts}
    strange = next((part for part in parts if meant[part] is None), None if parts else text)
    if strange is not None:
        raise SettingsError(unknown("family.augment", strange, AUGMENTATIONS))
    right, known = "+".join(dict.fromkeys(str(meant[part]) for part in parts)), ", ".join(AUGMENTATIONS)
    raise SettingsError(f"family.augment={text} is not of {known}, joined by +", nearest=f"family.augment={right}")


Augment = Annotated[str, Words(AUGMENTATIONS, joined=True), BeforeValidator(_known_transforms)]


class AugmentedFamily(Family):
    """Base of families whose critic may see augmented images, real and generated ones in both players' steps. Zhao et
    al. 2020, arXiv:2006.10738."""

    augment: Augment = NO_AUGMENTATION
    """Transforms of all images that the critic sees, joined by +: `colour+translation+cutout` is DiffAugment's."""


class AdaptiveFamily(AugmentedFamily):
    """Base of families that may steer the strength of augmentation by how much the critic overfits (ADA). Karras et al.
    2020, arXiv:2006.06676, section 3."""

    ada_target: Annotated[float, Field(ge=0.0, le=0.99)] = 0.0
    """What E sign(D(x)) over real images is kept at, by the probability of each transform, which starts at 0; 0:
    every image is transformed. The paper's is 0.6."""
    ada_images: Annotated[int, Field(ge=1, le=10**8)] = 500_000
    """Real images in which that probability moves by 1 at most."""

    @model_validator(mode="after")
    def _adaptation_applies(self) -> AdaptiveFamily:
        if self.ada_target and self.augment == NO_AUGMENTATION:
            raise SettingsError(
                f"family.ada_target={self.ada_target} has no meaning with family.augment={NO_AUGMENTATION}",
                nearest="family.augment=colour+translation+cutout",
            )
        _no_meaning_without(self, "ada_images", "ada_target", "0.6")
        return self


class R1Family(Family):
    """Base of families whose critic may have R1, a penalty on its slope at real samples. Mescheder et al. 2018,
    arXiv:1801.04406, equation 9."""

    r1_gamma: Weight = 0.0
    """gamma of R1, gamma / 2 E ||grad D(x)||^2 at real samples x; 0: no R1."""
    r1_every: Annotated[int, Field(ge=1, le=1000)] = 1
    """R1 is part of each so many-th critic step, times that number (Karras et al. 2020, arXiv:1912.04958, appendix B).
    """

    @property
    def real_or_fake(self) -> str:  # type: ignore[override]
        """With R1 the critic's loss is not its cross entropy alone."""
        return "real_or_fake" if self.r1_gamma else "loss/critic"

    @model_validator(mode="after")
    def _r1_applies(self) -> R1Family:
        _no_meaning_without(self, "r1_every", "r1_gamma", "1.0")
        return self


class InstanceNoiseFamily(Family):
    """Base of families that offer instance noise: noise on all that the critic sees, which fades out."""

    instance_noise: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0
    """Standard deviation of the noise on all samples at the start, in units of the samples; 0: no noise."""
    noise_rounds: Annotated[int, Field(ge=1, le=10**9)] = 1000
    """Rounds after which the instance noise has faded out."""

    @model_validator(mode="after")
    def _noise_rounds_apply(self) -> InstanceNoiseFamily:
        _no_meaning_without(self, "noise_rounds", "instance_noise", "0.1")
        return self


def _no_meaning_without(family: Family, detail: str, option: str, on: str) -> None:
    """Raises SettingsError if `detail` is set and the option that it belongs to is off. `on`: what turns it on."""
    value = getattr(family, detail)
    if not getattr(family, option) and value != type(family).model_fields[detail].default:
        raise SettingsError(
            f"family.{detail}={value} has no meaning with family.{option}=0", nearest=f"family.{option}={on}"
        )
