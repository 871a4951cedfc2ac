"""What a critic sees by the options of its family, and what they add to its loss."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_core.experiment import Experiment
from gan_core.family import build_family, family_class, family_names
from gan_core.options import AdaptiveFamily, AugmentedFamily, InstanceNoiseFamily, R1Family
from gan_core.recipe import Batch, Turn
from gan_core.settings import SettingsError
from gan_core.techniques.augmentation import augmentation
from gan_core.techniques.critic_view import CriticView

SIZE = 16


class Everything(InstanceNoiseFamily, AdaptiveFamily, R1Family):
    """All options at once."""


class Linear(nn.Module):
    """x -> <weight, x>, whose slope is its weight everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64))

    def forward(self, x):
        return (x * self.weight).flatten(1).sum(dim=1)


def batch(number: int = 0, player: str = "critic", round: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(number)
    real = torch.rand(SIZE, 1, 8, 8, generator=draw, dtype=torch.float64) + 1
    return Batch(
        real, torch.zeros(SIZE), torch.zeros(SIZE, 1), real[:, :1, :1, :1], Turn(0, player, number, SIZE, round)
    )


def view(critic: nn.Module | None = None, **options) -> CriticView:
    return CriticView(Everything.load(options), critic or Linear())


def test_without_options_the_critic_sees_the_samples_themselves():
    given, fake = batch(), torch.rand(SIZE, 1, 8, 8)
    for plain in (view(), CriticView(build_family("bigan"), Linear())):
        seen = plain.of(given, fake)
        assert seen.real is given.real
        assert seen.fake is fake
        loss = torch.ones(())
        assert plain.regularised(loss, seen, seen.real[:, 0, 0, 0]) == (loss, {})
        plain.after_step()


@pytest.mark.parametrize("player", ["critic", "generator"])
def test_real_and_generated_images_of_one_place_are_augmented_alike_in_both_players_steps(player):
    given = batch(3, player)
    looked = view(augment="colour+translation")
    seen = looked.of(given, given.real.clone())
    assert torch.equal(seen.real, seen.fake)
    assert torch.equal(seen.real, augmentation("colour", "translation")(given.real, given.turn))
    assert torch.equal(looked.fake(given.real, given), seen.fake)


def test_gradients_flow_through_augmentation_and_noise_to_the_generator():
    fake = torch.rand(SIZE, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    looked = view(augment="cutout", instance_noise=0.1)
    given = batch(player="generator")
    looked.fake(fake, given).sum().backward()
    kept = augmentation("cutout")(torch.ones_like(fake), given.turn)
    assert torch.equal(fake.grad, kept)


def test_noise_is_added_after_the_augmentation_and_fades():
    given = batch()
    noise = view(instance_noise=0.5, noise_rounds=10).real(given) - given.real
    cut = augmentation("cutout")(given.real, given.turn)
    assert_close(view(augment="cutout", instance_noise=0.5, noise_rounds=10).real(given) - cut, noise)
    late = batch(round=10)
    assert view(instance_noise=0.5, noise_rounds=10).real(late) is late.real


# Adaptive augmentation


def turn_of(looked: CriticView, number: int, *scores: torch.Tensor, parts: int = 1) -> dict[str, torch.Tensor]:
    """The critic's turn, in which its scores of real samples are these. Returns what is logged."""
    for part in range(parts):
        given = batch(number)
        seen = looked.of(given, given.real)
        share = slice(part * SIZE // parts, (part + 1) * SIZE // parts)
        _, logged = looked.regularised(torch.zeros(()), seen, *(score[share] for score in scores))
    looked.after_step()
    return dict(logged)


@pytest.mark.parametrize("parts", [1, 2])
def test_the_probability_moves_by_the_images_of_a_turn_towards_the_target(parts):
    critic = Linear()
    looked = view(critic, augment="flip", ada_target=0.6, ada_images=160)
    above, below = torch.ones(SIZE), torch.tensor([1.0, 1.0, 1.0, -1.0]).repeat(SIZE // 4)  # means of signs: 1, 0.5
    wanted = [0.1 * step for step in (1, 2, 3, 2, 1, 0, 0, 0)]
    logged = []
    for number, score in enumerate([above] * 3 + [below] * 5):
        logged.append(float(turn_of(looked, number, score, parts=parts)["augment_p"]))
        assert_close(float(critic.augment_p), wanted[number], rtol=0, atol=1e-6)
    assert logged == pytest.approx([0.0, *wanted[:-1]], abs=1e-6)
    for number in range(12):
        turn_of(looked, number, above)
    assert critic.augment_p == 1


def test_scores_without_a_zero_are_compared_with_the_middle():
    """A critic that tells all real samples from fakes overfits, whatever is added to its scores."""
    for offset in (-50.0, 0.0, 50.0):
        critic = Linear()
        looked = view(critic, augment="flip", ada_target=0.6, ada_images=160)
        apart = torch.linspace(1, 2, SIZE)
        turn_of(looked, 0, offset + apart, offset - apart)
        assert critic.augment_p > 0
        turn_of(looked, 1, offset + apart, offset + apart)
        assert critic.augment_p == 0


def test_the_probability_says_how_many_images_are_augmented():
    critic = Linear()
    looked = view(critic, augment="cutout", ada_target=0.6)
    given = batch()
    for probability, fewest, most in ((0.0, 0, 0), (0.5, 3, 13), (1.0, SIZE, SIZE)):
        critic.augment_p.fill_(probability)
        seen = looked.of(given, given.real)
        changed = (seen.real != given.real).flatten(1).any(dim=1)
        assert fewest <= int(changed.sum()) <= most
        assert torch.equal(seen.real, seen.fake)


# R1


@pytest.mark.parametrize("every", [1, 4])
def test_r1_of_a_linear_critic_is_the_length_of_its_weight(every):
    critic = Linear()
    looked = view(critic, r1_gamma=3.0, r1_every=every)
    for number in range(5):
        given = batch(number)
        seen = looked.of(given, given.real)
        loss, logged = looked.regularised(torch.zeros(()), seen, critic(seen.real))
        if number % every:
            assert loss == 0
            continue
        assert_close(loss.detach(), every * 1.5 * critic.weight.detach().square().sum())
        (slope,) = torch.autograd.grad(loss, critic.weight)
        assert_close(slope, every * 3.0 * critic.weight.detach())
        assert set(logged) == {"real_or_fake", *(["r1"] if every == 1 else [])}


def test_r1_is_the_slope_at_the_images_before_they_are_augmented():
    critic = Linear()
    looked, given = view(critic, r1_gamma=2.0, augment="cutout"), batch()
    seen = looked.of(given, given.real)
    loss, _ = looked.regularised(torch.zeros(()), seen, critic(seen.real))
    kept = augmentation("cutout")(torch.ones_like(given.real), given.turn)
    assert_close(loss.detach(), (kept * critic.weight.detach()).square().flatten(1).sum(dim=1).mean())


def test_the_generator_has_no_r1():
    looked, given = view(r1_gamma=2.0), batch(player="generator")
    assert looked.of(given, given.real).before is None


# Settings

OF_IMAGES = [name for name in family_names() if issubclass(family_class(name), AugmentedFamily)]


@pytest.mark.parametrize(
    ("settings", "nearest"),
    [
        ({"augment": "color,translation"}, "family.augment=colour+translation"),
        ({"augment": ["colour", "cutout"]}, "family.augment=colour+cutout"),
        ({"augment": "colour+colour"}, "family.augment=colour"),
        ({"augment": "cutuot"}, "family.augment=cutout"),
        ({"augment": "flop+zoom"}, "one of none, flip, colour, translation, cutout"),
        ({"augment": "zoom"}, "one of none, flip, colour, translation, cutout"),
        ({"ada_target": 0.6}, "family.augment=colour"),
        ({"augment": "flip", "ada_images": 5}, "family.ada_target=0.6"),
        ({"augment": "flip", "ada_target": 1.5}, "family.ada_target=0.99"),
        ({"r1_every": 16}, "family.r1_gamma=1.0"),
        ({"r1_gamma": -1}, "family.r1_gamma=0.0"),
    ],
)
def test_wrong_settings_are_refused_with_the_nearest_right_one(settings, nearest):
    with pytest.raises(SettingsError) as error:
        Everything.load(settings, prefix="family.")
    assert f"family.{next(reversed(settings))}" in str(error.value)
    assert f"nearest: {nearest}" in str(error.value)


@pytest.mark.parametrize("name", OF_IMAGES)
def test_augmented_points_are_refused(name):
    net = {"net": "mlp"} if "net" in family_class(name).model_fields else {}
    given = {"family": {"name": name, "augment": "flip", **net}, "data": {"name": "ring8"}}
    with pytest.raises(SettingsError, match="ring8 is points; nearest: (family.augment=none|data.name=digits)"):
        Experiment.load(given)
