"""Recipes with more than two plain players: a single player, an encoder, a classifier, labels, buffers."""

import math
from itertools import combinations, islice

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_core import checkpoint, objectives, ranks
from gan_core.experiment import Experiment
from gan_core.family import Family
from gan_core.loop import Game, rounds
from gan_core.recipe import Player, Recipe, Turn
from gan_core.settings import SettingsError
from tests.gan_core.games import BATCH, dataset, new_game, small, state

CLASSES = 10


class Ask(nn.Module):
    """Decodes z, depending on the class."""

    def __init__(self, decoder: nn.Module, classes: int, latent: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.embedding = nn.Embedding(classes, latent)

    def forward(self, z, labels):
        return self.decoder(z + self.embedding(labels))


class Alone(Family):
    """One player that encodes, decodes and classifies, and counts its training in a buffer."""

    needs_labels = True
    labelled: int = 30

    def recipe(self, shape, classes):
        size = torch.Size(shape).numel()
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, self.latent))
        decoder = nn.Sequential(nn.Linear(self.latent, size), nn.Tanh(), nn.Unflatten(1, shape))
        net = nn.ModuleDict(
            {
                "encoder": encoder,
                "generator": Ask(decoder, classes, self.latent),
                "classifier": nn.Sequential(encoder, nn.Linear(self.latent, classes)),
            }
        )
        net.register_buffer("taught", torch.zeros(()))

        def loss(batch):
            known = batch.labels >= 0
            again = net["generator"](net["encoder"](batch.real), batch.labels.clamp(min=0))
            wrong = nn.functional.cross_entropy(net["classifier"](batch.real), batch.labels, ignore_index=-1)
            net.taught += known.sum()
            return (again - batch.real).square().mean() + torch.nan_to_num(wrong), {}

        adam = lambda weights: torch.optim.Adam(weights, lr=1e-3)  # noqa: E731
        return Recipe(
            {"coder": Player(net, loss, adam, sees_real=True)},
            net["generator"],
            conditional=True,
            encoder=net["encoder"],
            classifier=net["classifier"],
            labelled=self.labelled,
        )


def alone(**fields) -> Experiment:
    return Experiment(family=Alone(latent=8, **fields), data={"batch_size": BATCH})


def new(experiment: Experiment) -> Game:
    return Game(experiment, (1, 16, 16), classes=CLASSES)


def play(game: Game, count: int) -> None:
    real = dataset(game.experiment)
    for one in islice(rounds(game, real.images, real.labels), count):
        one.scalars()


@pytest.fixture
def images() -> torch.Tensor:
    return dataset(small("gan")).images[:9]


def test_a_single_player_plays_rounds_of_one_step(images):
    game = new(alone())
    play(game, 4)
    assert (game.step, game.images_seen, game.images_per_round) == (4, 4 * BATCH, BATCH)


def test_encoder_and_classifier_are_averaged_like_the_generator(images):
    game = new(alone(ema=0.3))
    before = {name: net(images).detach() for name, net in game.current.items() if name != "generator"}
    play(game, 1)
    decay = 2 / 11
    for name, found in (("encoder", game.encode(images)), ("classifier", game.classify(images))):
        now = game.current[name](images).detach()
        assert not torch.equal(now, before[name])
        if name == "encoder":  # linear, so that the average of the weights gives the average of the outputs
            assert_close(found, decay * before[name] + (1 - decay) * now, rtol=1e-4, atol=1e-5)
    assert game.encode(images).shape == (9, 8)
    assert game.classify(images).shape == (9, CLASSES)
    assert game.sample(game.encode(images)).shape == images.shape


def test_what_a_recipe_lacks_is_an_error_that_names_it(images):
    game = new_game(small("gan"))
    with pytest.raises(ValueError, match="gan has no encoder; it has: generator"):
        game.encode(images)
    with pytest.raises(ValueError, match="gan has no classifier; it has: generator"):
        game.classify(images)
    with pytest.raises(ValueError, match="gan knows no labels"):
        game.sample(torch.zeros(2, 8), torch.tensor([0, 1]))


def test_samples_are_of_the_classes_asked_for_or_of_each_in_turn():
    game = new(alone())
    z = torch.zeros(12, 8)
    of_each = game.sample(z)
    assert_close(of_each[10:], of_each[:2])
    assert_close(game.sample(z[:2], torch.tensor([7, 2])), of_each[[7, 2]])
    assert min((one - other).abs().max() for one, other in combinations(of_each[:10], 2)) > 0.01


def test_the_last_bits_of_a_players_own_state_are_saved_and_resumed(tmp_path):
    straight, first, second = (new(alone()) for _ in range(3))
    play(straight, 6)
    play(first, 3)
    checkpoint.save(first, tmp_path / "here")
    checkpoint.load(second, tmp_path / "here")
    assert 0 < second.players["coder"].net.taught == first.players["coder"].net.taught
    play(second, 3)
    one, other = state(straight), state(second)
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


def test_a_family_sees_the_labels_that_it_asks_for_and_no_others():
    game = new(alone(labelled=30))
    real = dataset(game.experiment)
    epochs = 2
    whole = len(real.labels) // BATCH * epochs
    play(game, whole)
    assert epochs * 30 - 1 <= int(game.players["coder"].net.taught) <= epochs * 30


def test_more_labels_than_images_are_refused():
    game = new(alone(labelled=1798))
    with pytest.raises(SettingsError, match="family.labelled=1798 of 1797 images; nearest: family.labelled=1797"):
        play(game, 1)


def test_data_of_one_class_are_refused_by_a_family_that_needs_labels():
    with pytest.raises(SettingsError, match=r"Alone needs labels, classes=1; nearest: classes=dataset.classes"):
        Game(alone(), (1, 16, 16))


# Optimisers, schedules, parts of a batch


def rates(game: Game) -> dict[str, float]:
    return {name: optimizer.param_groups[0]["lr"] for name, optimizer in game.optimizers.items()}


def test_each_player_has_its_own_learning_rate_on_its_schedule():
    game, found = new_game(small("modern", "family.lr=1e-3", "family.critic_lr=4e-3")), []
    real = dataset(game.experiment)
    for _ in islice(rounds(game, real.images, real.labels), 16):
        found.append(rates(game))
    warm, cold = [0.25, 0.5, 0.75, 1, 1, 1, 1], 0.5
    assert [one["generator"] for one in found[:7]] == pytest.approx([1e-3 * share for share in warm])
    assert found[15] == pytest.approx({"critic": 4e-3 * cold, "generator": 1e-3 * cold})
    assert all(one["critic"] == pytest.approx(4 * one["generator"]) for one in found)


def test_a_rollbacks_lower_rate_and_the_schedule_multiply():
    game = new_game(small("modern", "family.lr=1e-3", "family.critic_lr=4e-3"))
    game.step = 20
    game.scale_rates(0.1)
    assert rates(game) == pytest.approx({"critic": 2e-4, "generator": 5e-5})


def test_a_resumed_game_has_the_rate_of_its_round(tmp_path):
    game = new_game(small("modern"))
    play(game, 3)
    again = checkpoint.open_game(checkpoint.save(game, tmp_path / "here"))
    real = dataset(game.experiment)
    next(rounds(again, real.images, real.labels))
    next(rounds(game, real.images, real.labels))
    assert rates(again) == rates(game) == pytest.approx({"critic": 3e-3, "generator": 1e-3})


def test_adams_beta2_follows_its_schedule_and_is_that_of_the_round_when_resumed(tmp_path):
    game, found = new_game(small("modern")), []
    real = dataset(game.experiment)
    for one in islice(rounds(game, real.images, real.labels), 12):
        found.append({name: optimizer.param_groups[0]["betas"] for name, optimizer in game.optimizers.items()})
        if one.step == 3:
            checkpoint.save(game, tmp_path / "here")
    wanted = [0.9 + 0.09 * (1 - math.cos(math.pi * played / 10)) / 2 for played in range(10)] + [0.99, 0.99]
    assert [one["critic"] for one in found] == [pytest.approx((0, beta2)) for beta2 in wanted]
    assert [one["generator"] for one in found] == [one["critic"] for one in found]
    again = checkpoint.open_game(tmp_path / "here")
    next(rounds(again, real.images, real.labels))
    assert again.optimizers["critic"].param_groups[0]["betas"] == found[3]["critic"]


def test_a_longer_gradient_is_shortened():
    game, norms = new_game(small("modern")), []
    for name, optimizer in game.optimizers.items():
        weights = list(game.players[name].parameters())
        optimizer.register_step_pre_hook(
            lambda *_, weights=weights: norms.append(
                float(torch.cat([one.grad.flatten() for one in weights if one.grad is not None]).norm())
            )
        )
    play(game, 6)
    assert len(norms) == 18
    assert max(norms) == pytest.approx(0.5, rel=1e-5)
    assert min(norms) < 0.4


@pytest.mark.parametrize("name", ["wgan_gp", "began", "gan", "gan-instance_noise"])
@pytest.mark.parametrize("part", [8, 2])
def test_the_gradients_of_parts_add_up_to_that_of_the_batch(name, part):
    """Of losses that are means over images, in networks without BatchNorm."""
    nets = {"wgan_gp": ["family.net=mlp"], "began": ["family.net=began"]}
    words = ["compute.precision=fp64", *nets.get(name, [])]
    whole, parts = (new_game(small(name, *words, *more)) for more in ([], [f"data.micro_batch={part}"]))
    losses = [play_scalars(game, 4) for game in (whole, parts)]
    assert losses[1] == [pytest.approx(one, rel=1e-9, abs=1e-12) for one in losses[0]]
    one, other = state(whole), state(parts)
    for key, value in one.items():
        assert_close(other[key], value, rtol=1e-7, atol=1e-10)


def play_scalars(game: Game, count: int) -> list[dict[str, float]]:
    real = dataset(game.experiment).to(game.device, game.dtype)
    found = [one.scalars() for one in islice(rounds(game, real.images, real.labels), count)]
    return [{key: value for key, value in one.items() if key != "convergence"} for one in found]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.micro_batch=5"], "data.micro_batch=5 does not divide data.batch_size=16; nearest: data.micro_batch=4"),
        (["data.micro_batch=32"], "data.micro_batch=32 does not divide .*; nearest: data.micro_batch=16"),
        (["family.ema_half_life=9", "family.ema=0.5"], "family.ema=0.5 has no meaning with family.ema_half_life=9"),
    ],
)
def test_what_cannot_be_is_refused(words, message):
    with pytest.raises(SettingsError, match=message):
        small("gan", *words)


def test_a_part_that_workers_cannot_share_is_refused(monkeypatch):
    monkeypatch.setattr(ranks, "world_size", lambda: 4)
    with pytest.raises(SettingsError, match="data.micro_batch=2 cannot be shared by 4 workers; nearest: .*batch=4"):
        new_game(small("gan", "data.micro_batch=2"))


def test_an_average_by_half_life_does_not_depend_on_the_rounds_it_takes():
    """After equally many images an old weight counts as much, whatever a round has of them."""
    for n_critic in (1, 5):
        family = small("wgan", f"family.n_critic={n_critic}", "family.ema_half_life=4000").family
        rounds_played = 4000 / (BATCH * n_critic)
        assert family.decay(BATCH * n_critic) ** rounds_played == pytest.approx(0.5)
    game = new_game(small("gan", "family.ema_half_life=1"))  # shorter than a round
    play(game, 2)
    assert_close(dict(game.average.named_parameters()), dict(game.generator.named_parameters()), rtol=1e-3, atol=1e-3)


def test_a_lazy_penalty_counts_as_often_as_one_of_each_turn():
    computed = []

    def penalty() -> torch.Tensor:
        computed.append(1)
        return torch.tensor(2.0)

    found = [float(objectives.every(4, Turn(0, "critic", number, 8), penalty)) for number in range(8)]
    assert found == [8, 0, 0, 0, 8, 0, 0, 0]
    assert len(computed) == 2
