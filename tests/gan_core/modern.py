"""A family outside of ours, which uses what a recipe offers beyond a plain game."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_core.family import CriticSteps, Family, LearningRate, Net, PenaltyWeight, Width

if TYPE_CHECKING:
    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class Modern(Family):
    """Hinge losses on a critic with spectral normalisation that sees augmented images, a lazy penalty, two learning
    rates that warm up and decay, a beta2 that rises, and shortened gradients."""

    lr: LearningRate = 1e-3
    critic_lr: LearningRate = 3e-3
    gp_lambda: PenaltyWeight = 1.0
    net: Net = "auto"
    n_critic: CriticSteps = 2
    width: Width = 32

    def plays_on_points(self) -> bool:
        return False

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        from gan_core import nets, objectives
        from gan_core.optimizers import adam
        from gan_core.recipe import adversarial
        from gan_core.techniques.augmentation import augmentation
        from gan_core.techniques.schedules import cosine, cosine_decay, product, warm_up

        generator = nets.generator(self.net, self.latent, shape, self.width)
        critic = nets.spectrally_normalised(nets.wasserstein_critic(self.net, shape, self.width))
        augment = augmentation("flip", "colour", "translation", "cutout")
        fading = cosine_decay(0, 8)

        def critic_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            real = augment(batch.real, batch.turn)
            fake = augment(nets.without_grad(generator, batch.z), batch.turn)
            real_score, fake_score = nets.scores(critic, real, fake)
            penalty = objectives.every(
                3, batch.turn, lambda: objectives.gradient_penalty(critic, real, fake, batch.mix)
            )
            loss = (1 - real_score).relu().mean() + (1 + fake_score).relu().mean()
            return loss + self.gp_lambda * fading(batch.turn.round) * penalty, {}

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            return -critic(augment(generator(batch.z), batch.turn)).mean(), {}

        return adversarial(
            critic,
            critic_loss,
            generator,
            generator_loss,
            adam(self.critic_lr, 0.0, 0.9),
            n_critic=self.n_critic,
            generator_optimizer=adam(self.lr, 0.0, 0.9),
            rate=product(warm_up(4), cosine_decay(6, 15, to=0.5)),
            beta2=cosine(0.9, 0.99, 10),
            max_gradient_norm=0.5,
        )
