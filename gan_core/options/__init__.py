"""Options that families offer, as bases of a family: augmentation, its adaptive strength, R1, instance noise.

`gan_core.techniques.critic_view.CriticView` is what a family plays them by. Nothing here imports torch.
"""

from gan_core.options._families import (
    AUGMENTATIONS,
    NO_AUGMENTATION,
    AdaptiveFamily,
    AugmentedFamily,
    InstanceNoiseFamily,
    R1Family,
)

__all__ = [
    "AUGMENTATIONS",
    "NO_AUGMENTATION",
    "AdaptiveFamily",
    "AugmentedFamily",
    "InstanceNoiseFamily",
    "R1Family",
]
