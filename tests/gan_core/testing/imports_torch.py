"""A family whose module imports torch at once."""

import torch

from tests.gan_core.testing.planted import Right

SILU = torch.nn.SiLU


class Early(Right):
    """Right otherwise."""
