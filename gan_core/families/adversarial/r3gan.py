"""R3GAN: a relativistic loss with R1 and R2, networks without normalisation. Huang et al. 2024, arXiv:2501.05441."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from gan_core.family import Beta2, CriticSteps, LearningRate, Weight, Width
from gan_core.options import AdaptiveFamily

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class R3gan(AdaptiveFamily):
    """The critic tells which of a real and a generated image is real, and its slope is penalised at both. Adam's
    learning rate and beta2 and the penalty's weight go from a first value to a last one along half a cosine."""

    lr: LearningRate = 2e-4
    lr_last: LearningRate = 5e-5
    """Learning rate after `anneal_rounds`."""
    beta2: Beta2 = 0.9
    beta2_last: Beta2 = 0.99
    """beta2 after `anneal_rounds`."""
    r1_r2_gamma: Weight = 0.05
    """gamma of R1 and R2: gamma / 2 E ||grad D(x)||^2 at real images x, and the same at generated ones."""
    r1_r2_gamma_last: Weight = 0.005
    """gamma after `anneal_rounds`."""
    anneal_rounds: Annotated[int, Field(ge=0, le=10**9)] = 0
    """Rounds from the first values to the last; 0: the first values stay."""
    n_critic: CriticSteps = 1
    width: Width = 32
    """Channels up to 32x32, halved at each doubling of the side beyond. A multiple of 8 gives the paper's groups."""

    def plays_on_points(self) -> bool:
        return False

    def without_meaning(self) -> dict[str, tuple[str, str]]:
        last = () if self.anneal_rounds else ("lr_last", "beta2_last", "r1_r2_gamma_last")
        return super().without_meaning() | dict.fromkeys(last, ("anneal_rounds", "10000"))

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        import torch

        from gan_core import nets, objectives
        from gan_core.optimizers import adam
        from gan_core.recipe import adversarial
        from gan_core.techniques.critic_view import CriticView, Seen
        from gan_core.techniques.schedules import cosine

        generator = nets.r3gan_generator(self.latent, shape, self.width)
        critic = nets.r3gan_critic(shape, self.width)
        view = CriticView(self, critic)
        gamma = cosine(self.r1_r2_gamma, self.r1_r2_gamma_last, self.anneal_rounds)

        def critic_loss(batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
            # The slopes at all samples in one pass: a sample's score depends on that sample alone.
            fake = nets.without_grad(generator, batch.z)
            samples = torch.cat([batch.real, fake]).requires_grad_()
            real, fake = samples.chunk(2)
            seen = Seen(view.real(batch._replace(real=real)), view.fake(fake, batch), None)
            scores = critic(torch.cat([seen.real, seen.fake]))
            real_score, fake_score = scores.chunk(2)
            slope = objectives.zero_centred_penalty(scores, samples)  # the mean of R1 and R2
            loss = objectives.relativistic_loss(real_score, fake_score) + gamma(batch.turn.round) * slope
            loss, scalars = view.regularised(loss, seen, real_score, fake_score)
            return loss, {"gradient_penalty": slope, **scalars}

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            with torch.no_grad():
                real_score = critic(view.real(batch))
            fake_score = critic(view.fake(generator(batch.z), batch))
            return objectives.relativistic_loss(fake_score, real_score), {}

        return adversarial(
            critic,
            critic_loss,
            generator,
            generator_loss,
            adam(self.lr, 0.0, self.beta2),
            self.n_critic,
            view.after_step,
            rate=cosine(1.0, self.lr_last / self.lr, self.anneal_rounds),
            beta2=cosine(self.beta2, self.beta2_last, self.anneal_rounds),
        )
