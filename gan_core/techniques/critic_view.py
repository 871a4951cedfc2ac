"""What a critic sees of real and generated samples by its family's options: noise, augmentation and its strength, R1.

A family that offers any of `gan_core.options` plays them by one `CriticView`. Without an option nothing is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gan_core import objectives, ranks
from gan_core.family import Family
from gan_core.options import NO_AUGMENTATION, AdaptiveFamily, AugmentedFamily, InstanceNoiseFamily, R1Family
from gan_core.recipe import Batch
from gan_core.techniques.augmentation import augmentation
from gan_core.techniques.noise import instance_noise


class Seen(NamedTuple):
    """What the critic sees in one pass of its turn."""

    real: Tensor  # (N, *shape)
    fake: Tensor  # (N, *shape)
    before: Tensor | None
    """The real samples before they were changed, if their slope is penalised in this turn: it flows back to here."""


class CriticView:
    """The options of a family that change what its critic sees, and what they add to the critic's loss.

    Give `after_step` to the critic's player. The probability of augmentation (ADA) is the critic's buffer `augment_p`.
    """

    def __init__(self, family: Family, critic: nn.Module) -> None:
        transforms = family.augment if isinstance(family, AugmentedFamily) else NO_AUGMENTATION
        noise = (family.instance_noise, family.noise_rounds) if isinstance(family, InstanceNoiseFamily) else (0.0, 1)
        r1 = (family.r1_gamma, family.r1_every) if isinstance(family, R1Family) else (0.0, 1)
        ada = (family.ada_target, family.ada_images) if isinstance(family, AdaptiveFamily) else (0.0, 1)
        self._augment = None if transforms == NO_AUGMENTATION else augmentation(*transforms.split("+"))
        self._noised = instance_noise(*noise)
        self._gamma, self._every = r1
        self._target, self._images = ada
        self._critic = critic
        self._signs: list[Tensor] = []  # of the passes of one turn: the signs' sum and their number
        if self._target:
            critic.register_buffer("augment_p", torch.zeros(()))

    def of(self, batch: Batch, fake: Tensor) -> Seen:
        """What the critic sees in its turn of the batch's real samples, and of fakes (N, *shape)."""
        penalised = self._gamma and batch.turn.player == "critic" and batch.turn.number % self._every == 0
        real = batch.real.detach().requires_grad_() if penalised else batch.real
        return Seen(self.real(batch._replace(real=real)), self.fake(fake, batch), real if penalised else None)

    def real(self, batch: Batch) -> Tensor:
        """What the critic sees of the batch's real samples."""
        return self._noised(self._augmented(batch.real, batch), "real", batch.turn)

    def fake(self, fake: Tensor, batch: Batch) -> Tensor:
        """What the critic sees of fakes (N, *shape). Gradients flow through it to the generator."""
        return self._noised(self._augmented(fake, batch), "fake", batch.turn)

    def _augmented(self, samples: Tensor, batch: Batch) -> Tensor:
        if self._augment is None:
            return samples
        return self._augment(samples, batch.turn, self._critic.get_buffer("augment_p") if self._target else None)

    def regularised(
        self, loss: Tensor, seen: Seen, real_score: Tensor, fake_score: Tensor | None = None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The critic's loss with the penalty of its options, and scalars to log: what the critic's loss returns.

        `real_score` (N,) are the scores of `seen.real`, above 0 where the critic says real. Give `fake_score`, too,
        where scores have no such zero (Wasserstein, relativistic): the middle of both means takes its place.
        """
        scalars: dict[str, Tensor] = {}
        if self._target:
            scalars["augment_p"] = self._critic.get_buffer("augment_p").clone()
            self._signs.append(_signs(real_score, fake_score))
        if self._gamma:
            scalars["real_or_fake"] = loss
        if seen.before is not None:
            penalty = objectives.zero_centred_penalty(real_score, seen.before)
            loss = loss + self._every * self._gamma / 2 * penalty
            scalars |= {"r1": penalty} if self._every == 1 else {}  # the same scalars in every turn
        return loss, scalars

    @torch.no_grad()
    def after_step(self) -> None:
        """Moves the probability of augmentation towards its target, by the images of this turn."""
        if not self._target:
            return
        signs, count = ranks.total(torch.stack(self._signs).sum(dim=0))
        self._signs.clear()
        step = torch.sign(signs / count - self._target) * count / self._images
        self._critic.get_buffer("augment_p").add_(step).clamp_(0, 1)


@torch.no_grad()
def _signs(real_score: Tensor, fake_score: Tensor | None) -> Tensor:
    """The sum of sign(D(x)) and the number of scores: (2,). Karras et al. 2020, arXiv:2006.06676, equation 1, r_t.

    Sums of whole numbers are exact, so they are the same for any number of ranks.
    """
    if fake_score is not None:
        exact = torch.promote_types(real_score.dtype, torch.float32)
        real_score, fake_score = real_score.to(exact), fake_score.to(exact)
        real_score = real_score - ranks.mean(torch.stack([real_score.mean(), fake_score.mean()])).mean()
    signs = torch.sign(real_score).sum(dtype=torch.float32)
    return torch.stack([signs, torch.full_like(signs, len(real_score))])
