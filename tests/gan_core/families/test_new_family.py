"""A family is one file: it can be trained, resumed and searched without a change anywhere else."""

import textwrap

import pytest
import torch

from gan_core import checkpoint
from gan_core.experiment import Experiment
from gan_core.families import adversarial
from gan_core.family import family_class, family_names
from gan_core.settings import SettingsError
from tests.gan_core.games import BATCH, asked, new_game, play, state
from tune_spaces.domains import SearchedFields

LEAST_SQUARES = textwrap.dedent('''\
    """Least squares GAN. Mao et al. 2017, arXiv:1611.04076, equation 9."""

    from __future__ import annotations

    from typing import TYPE_CHECKING

    from gan_core.family import Beta1, CriticSteps, Family, LearningRate, Net, Width

    if TYPE_CHECKING:
        from torch import Tensor

        from gan_core.recipe import Batch, Recipe, Shape


    class LeastSquares(Family):
        """The critic's targets are 1 for real samples and 0 for fakes; the generator's target is 1."""

        lr: LearningRate = 1e-3
        beta1: Beta1 = 0.5
        n_critic: CriticSteps = 1
        net: Net = "auto"
        width: Width = 32

        def plays_on_points(self) -> bool:
            return self.net != "dcgan"

        def recipe(self, shape: Shape, classes: int) -> Recipe:
            from gan_core import nets
            from gan_core.optimizers import adam
            from gan_core.recipe import adversarial

            generator = nets.generator(self.net, self.latent, shape, self.width)
            critic = nets.wasserstein_critic(self.net, shape, self.width)

            def critic_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
                real, fake = nets.scores(critic, batch.real, nets.without_grad(generator, batch.z))
                return ((real - 1).square().mean() + fake.square().mean()) / 2, {}

            def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
                return (critic(generator(batch.z)) - 1).square().mean() / 2, {}

            optimizer = adam(self.lr, self.beta1, 0.999)
            return adversarial(critic, critic_loss, generator, generator_loss, optimizer, self.n_critic)
''')


@pytest.fixture(autouse=True)
def _written(tmp_path, monkeypatch):
    (tmp_path / "families").mkdir()
    (tmp_path / "families" / "least_squares.py").write_text(LEAST_SQUARES)
    monkeypatch.setattr(adversarial, "__path__", [*adversarial.__path__, str(tmp_path / "families")])


def experiment(*assignments: str) -> Experiment:
    sizes = ["family.width=4", "family.latent=8", f"data.batch_size={BATCH}"]
    return Experiment.load({"family": "least_squares"}).override(*sizes, *assignments)


def test_it_is_one_short_file():
    assert len(LEAST_SQUARES.splitlines()) <= 60
    compile(LEAST_SQUARES, "least_squares.py", "exec")


def test_it_is_found_by_its_name():
    assert "least_squares" in family_names()
    assert experiment().family.name == "least_squares"
    with pytest.raises(SettingsError, match=r"nearest: least_squares"):
        family_class("least_square")
    with pytest.raises(SettingsError, match=r"'family.clip' of least_squares \(a setting of .*wgan"):
        experiment("family.clip=0.1")


@pytest.mark.parametrize("data", ["digits", "ring8"])
def test_it_plays_and_is_resumed_bit_for_bit(tmp_path, data):
    settings = [f"data.name={data}", *(["family.net=mlp"] if data == "ring8" else [])]
    straight, first = (new_game(experiment(*settings)) for _ in range(2))
    losses = [one.scalars() for one in play(straight, 4)]
    halves = [one.scalars() for one in play(first, 2)]
    second = checkpoint.open_game(checkpoint.save(first, tmp_path / "here"))
    halves += [one.scalars() for one in play(second, 2)]
    assert halves == losses
    one, other = state(straight), state(second)
    assert [key for key in one if not torch.equal(one[key], other[key])] == []
    assert second.sample(*asked(second, 3)).isfinite().all()


def test_its_search_space_follows_from_its_fields():
    assert set(SearchedFields().space(family_class("least_squares")())) == {"lr", "beta1", "n_critic"}
