"""Semi-supervised GAN: the critic knows K classes and fakes. Salimans et al. 2016, arXiv:1606.03498, section 5."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gan_core.family import Beta1, Beta2, CriticSteps, LearningRate
from gan_core.options import AdaptiveFamily, InstanceNoiseFamily, NetFamily
from gan_core.settings import SettingsError

if TYPE_CHECKING:
    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class Sgan(NetFamily, InstanceNoiseFamily, AdaptiveFamily):
    """The critic gives K logits; that of the fake class is fixed at 0. So D = Z / (Z + 1) with Z the sum of the
    exponentials of the logits. Labelled images add a cross entropy. G minimises the non-saturating loss, or matches
    the means of the critic's features as in the paper (section 3.1), which fails where real images are few."""

    needs_labels = True
    real_or_fake = "real_or_fake"

    lr: LearningRate = 1e-3
    beta1: Beta1 = 0.5
    beta2: Beta2 = 0.999
    n_critic: CriticSteps = 1
    labelled: Annotated[int, Field(ge=1, le=10**9)] = 100
    """Images of the train set whose labels are used, an equal number of each class, chosen by the seed."""
    loss: Literal["non_saturating", "feature_matching"] = "non_saturating"
    """Loss of the generator."""

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        if self.labelled < classes:
            raise SettingsError(
                f"family.labelled={self.labelled} leaves some of {classes} classes without a label",
                nearest=f"family.labelled={classes}",
            )
        from gan_core import nets, objectives
        from gan_core.nets import heads
        from gan_core.optimizers import adam
        from gan_core.recipe import adversarial
        from gan_core.techniques.critic_view import CriticView

        generator = nets.generator(self.net, self.latent, shape, self.width)
        critic = heads.ClassLogits(nets.wasserstein_critic(self.net, shape, self.width), classes)
        view = CriticView(self, critic)

        def critic_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            seen = view.of(batch, nets.without_grad(generator, batch.z))
            real_logits, fake_logits = nets.scores(critic, seen.real, seen.fake)
            real_score = real_logits.logsumexp(1)
            unsupervised = objectives.discriminator_loss(real_score, fake_logits.logsumexp(1))
            supervised = objectives.known_cross_entropy(real_logits, batch.labels)
            loss, scalars = view.regularised(supervised + unsupervised, seen, real_score)
            return loss, {"cross_entropy": supervised, "real_or_fake": unsupervised, **scalars}

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            fake = view.fake(generator(batch.z), batch)
            if self.loss == "non_saturating":
                return objectives.non_saturating_loss(critic(fake).logsumexp(1)), {}
            return objectives.feature_matching_loss(critic.features(view.real(batch)), critic.features(fake)), {}

        optimizer = adam(self.lr, self.beta1, self.beta2)
        return adversarial(
            critic,
            critic_loss,
            generator,
            generator_loss,
            optimizer,
            self.n_critic,
            view.after_step,
            classifier=critic,
            labelled=self.labelled,
        )
