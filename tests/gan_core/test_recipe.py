"""Recipes with more than two plain players: a single player, an encoder, a classifier, labels, buffers."""

from itertools import combinations, islice

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_core import checkpoint
from gan_core.experiment import Experiment
from gan_core.family import Family
from gan_core.loop import Game, rounds
from gan_core.recipe import Player, Recipe
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
    with pytest.raises(SettingsError, match="needs labels, data.name=digits has one class only; nearest: data.name="):
        Game(alone(), (1, 16, 16))
