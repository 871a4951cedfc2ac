"""Options that families offer, as bases of a family: networks by name, augmentation, its adaptive strength, R1,
instance noise.

`gan_core.techniques.critic_view.CriticView` is what a family plays by what its critic sees. Nothing here imports torch.
"""

from gan_core.options._families import (
    AUGMENTATIONS,
    NO_AUGMENTATION,
    AdaptiveFamily,
    AugmentedFamily,
    InstanceNoiseFamily,
    R1Family,
)
from gan_core.options._networks import BatchNormFamily, NetFamily, WidthOfNetFamily

__all__ = [
    "AUGMENTATIONS",
    "NO_AUGMENTATION",
    "AdaptiveFamily",
    "AugmentedFamily",
    "BatchNormFamily",
    "InstanceNoiseFamily",
    "NetFamily",
    "R1Family",
    "WidthOfNetFamily",
]
