"""Warning signs: their metrics, when they are reported, and that their advice is valid settings."""

import math

import numpy as np
import pytest

from gan_core.family import family_class, family_names
from gan_core.health.signs import SignDetector, health_metrics
from gan_core.loop import Game, rounds
from gan_core.metrics.scores import scores
from tests.gan_core.games import dataset, new_game, play, small, tiered


def game_of(name: str, *assignments: str, width: int = 4) -> Game:
    return new_game(small(name, *assignments, width=width))


def norm(tensors) -> float:
    """The norm by numpy, in float64."""
    return math.sqrt(sum(float((tensor.detach().double().numpy() ** 2).sum()) for tensor in tensors))


def signs_of(game: Game, *rows: dict[str, float], steps: int = 50) -> list[list[str]]:
    """The names of the signs that each row reports."""
    watch = SignDetector(game)
    return [[sign.name for sign in watch.see(steps * number, row)] for number, row in enumerate(rows, start=1)]


GUESSING = {"loss/critic": 1.386, "gradient_norm/generator": 1.0, "weight_norm/generator": 10.0}
RIGHT = {**GUESSING, "loss/critic": 1e-3}
STARVED = {**RIGHT, "gradient_norm/generator": 1e-3}
WASSERSTEIN = {"loss/critic": -1.0, "wasserstein_estimate": 1.0, **dict(list(GUESSING.items())[1:])}


# Metrics


@pytest.mark.parametrize("name", tiered())
def test_norms_are_those_of_the_weights_and_of_the_last_gradients(name):
    game = game_of(name)
    last: dict[str, float] = {}
    for player, optimizer in game.optimizers.items():

        def keep(optimizer, *_, player=player):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            last[player] = norm(weight.grad for weight in weights)

        optimizer.register_step_pre_hook(keep)
    play(game, 2)
    found = health_metrics(game)
    for player, gradient in last.items():
        assert gradient > 0
        assert found[f"gradient_norm/{player}"] == pytest.approx(gradient, rel=1e-5)
        assert found[f"weight_norm/{player}"] == pytest.approx(norm(game.players[player].parameters()), rel=1e-5)


@pytest.mark.parametrize("clip", [1e-3, 0.02, 1.0])
def test_the_clipped_share_is_that_of_the_critics_weights(clip):
    game = game_of("wgan", f"family.clip={clip}")
    play(game, 3)
    weights = np.concatenate([weight.detach().numpy().ravel() for weight in game.players["critic"].parameters()])
    share = np.mean(np.abs(weights) > 0.99 * clip)
    assert health_metrics(game)["clipped_share"] == pytest.approx(share, abs=1e-12)
    assert (share > 0.3) == (clip < 1e-2)
    assert np.abs(weights).max() <= clip * (1 + 1e-6)


def test_only_clipped_weights_have_a_clipped_share():
    for name in family_names():
        game = game_of(name)
        play(game, 1)
        assert ("clipped_share" in health_metrics(game)) == ("clip" in family_class(name).model_fields), name


@pytest.mark.parametrize("name", [name for name in family_names() if family_class(name).real_or_fake])
def test_a_critic_that_judges_real_or_fake_begins_by_guessing(name):
    """The metric that the family names is 2 log 2 then."""
    game = game_of(name, width=16)
    if name == "stylegan2":  # its last layer starts from N(0, 1), so that its first scores are some distance from 0
        game.players["critic"].net[-2].weight.data.zero_()
    (first,) = play(game, 1)
    assert first.scalars()[game.experiment.family.real_or_fake] == pytest.approx(2 * math.log(2), abs=0.15)


def test_the_families_of_sigmoids_are_watched_as_such():
    named = {name for name in family_names() if family_class(name).real_or_fake}
    assert {"gan", "dcgan", "cgan", "sgan", "bigan"} <= named
    assert not named & {"wgan", "wgan_gp", "cwgan_gp", "began", "autoencoder", "vae"}


# When a sign is reported


def test_a_sign_is_told_at_the_second_step_in_a_row_and_once():
    game = game_of("gan")
    assert signs_of(game, RIGHT, RIGHT, RIGHT, RIGHT) == [[], ["strong_critic"], [], []]
    assert signs_of(game, RIGHT, GUESSING, RIGHT, GUESSING, RIGHT) == [[], [], [], [], []]
    assert signs_of(game, RIGHT, RIGHT, GUESSING, RIGHT, RIGHT) == [[], ["strong_critic"], [], [], []]


def test_a_step_that_does_not_measure_a_sign_says_nothing_about_it():
    """Variety is known only at evaluations."""
    high, low = {**GUESSING, "variety": 0.9}, {**GUESSING, "variety": 0.1}
    rows = (high, GUESSING, low, GUESSING, GUESSING, low)
    assert signs_of(game_of("gan"), *rows) == [[], [], [], [], [], ["mode_collapse"]]


SEEN = {
    "starvation": ("gan", [STARVED], {"gradient_starvation", "strong_critic"}),
    "a critic that is always right but teaches": ("dcgan", [RIGHT], {"strong_critic"}),
    "a small gradient of an undecided critic": ("gan", [{**STARVED, "loss/critic": 1.4}], set()),
    "of classes and fakes": ("sgan", [{**RIGHT, "loss/critic": 2.3, "real_or_fake": 1e-3}], {"strong_critic"}),
    "a loss of classes": ("sgan", [{**RIGHT, "loss/critic": 5.0, "real_or_fake": 1.4}], set()),
    "a small wasserstein loss": ("wgan_gp", [{**WASSERSTEIN, "loss/critic": 0.0}], set()),
    "a fooled critic": ("cgan", [{**GUESSING, "loss/critic": 3.0}], {"fooled_critic"}),
    "fakes above reals": ("wgan_gp", [WASSERSTEIN, {**WASSERSTEIN, "wasserstein_estimate": -0.3}], {"fooled_critic"}),
    "fakes beside reals": ("wgan_gp", [WASSERSTEIN, {**WASSERSTEIN, "wasserstein_estimate": -0.2}], set()),
    "variety lost": ("wgan_gp", [{**WASSERSTEIN, "variety": v} for v in (0.8, 0.39)], {"mode_collapse"}),
    "some variety lost": ("wgan_gp", [{**WASSERSTEIN, "variety": v} for v in (0.8, 0.41)], set()),
    "variety to come": ("wgan_gp", [{**WASSERSTEIN, "variety": v} for v in (0.09, 0.001)], set()),
    "few modes": ("gan-loss", [{**GUESSING, "modes": 4, "high_quality": 0.6}], {"mode_collapse"}),
    "many modes": ("gan-loss", [{**GUESSING, "modes": 5, "high_quality": 0.6}], set()),
    "no samples on modes yet": ("gan-loss", [{**GUESSING, "modes": 0, "high_quality": 0.0}], set()),
    "piled up": (
        "wgan",
        [{**WASSERSTEIN, "clipped_share": 0.6, "gradient_norm/generator": 1e-3}],
        {"small_clip"},
    ),
    "piled up at the paper's clip": ("wgan", [{**WASSERSTEIN, "clipped_share": 0.96}], set()),
    "nothing clipped": ("wgan", [{**WASSERSTEIN, "clipped_share": 0.001}], {"large_clip"}),
    "an exploding gradient": (
        "wgan",
        [{**WASSERSTEIN, "clipped_share": 0.6, "gradient_norm/generator": 2e4}],
        {"large_clip"},
    ),
    "a large gradient without clip": ("wgan_gp", [{**WASSERSTEIN, "gradient_norm/generator": 2e4}], set()),
    "something clipped": ("wgan", [{**WASSERSTEIN, "clipped_share": 0.02}], set()),
}


@pytest.mark.parametrize("case", SEEN)
def test_what_is_seen(case):
    name, rows, wanted = SEEN[case]
    game = game_of("gan", "data.name=ring8") if name == "gan-loss" else game_of(name)
    found = signs_of(game, *rows, *[rows[-1]] * 3)
    assert {sign for signs in found for sign in signs} == wanted


def test_samples_that_never_vary_are_told_after_two_thousand_rounds():
    row = {**GUESSING, "variety": 0.003}
    assert signs_of(game_of("gan"), row, row, row, row, row, row, steps=500) == [[], [], [], [], ["mode_collapse"], []]


def test_a_large_clip_is_told_when_weights_had_time_to_get_there():
    """Five steps of 0.001 per round: a weight needs 200 rounds to get to 1."""
    row = {**WASSERSTEIN, "clipped_share": 0.0}
    game = game_of("wgan", "family.clip=1", "family.lr=0.001")
    assert signs_of(game, *[row] * 6) == [[], [], [], [], ["large_clip"], []]


# Text and advice


@pytest.mark.parametrize("name", family_names())
def test_what_is_advised_is_a_setting_that_the_family_takes_and_does_not_have(name):
    game = game_of(name)
    watch = SignDetector(game)
    right = {**STARVED, "variety": 0.001, "real_or_fake": 1e-4}
    wrong = {**right, "loss/critic": 9.0, "real_or_fake": 9.0, "wasserstein_estimate": -1.0}
    if "clip" in type(game.experiment.family).model_fields:
        right |= {"clipped_share": 0.9, "gradient_norm/generator": 1e-6}
        wrong |= {"clipped_share": 0.0}
    rows = enumerate([right, right, wrong, wrong], start=1)
    signs = [sign for number, row in rows for sign in watch.see(5000 * number, row)]
    assert signs
    for sign in signs:
        words = sign.advice.removeprefix("try ").split(" or ")
        assert words[0].startswith("family.")
        for word in words:
            changed = game.experiment.override(word)
            assert changed.family != game.experiment.family


def test_minimax_is_told_of_the_other_loss():
    game = game_of("gan-minimax", "family.n_critic=4")
    watch = SignDetector(game)
    watch.see(50, STARVED)
    starved, strong = watch.see(100, STARVED)
    assert "family.loss=non_saturating or family.n_critic=2" in starved.advice
    assert str(strong).startswith("strong critic: loss 0.001, where guessing is 1.39; try family.loss=non_saturating")


# Unhealthy and healthy games


def watched(game: Game, every: int) -> set[str]:
    watch = SignDetector(game)
    found: set[str] = set()
    real = dataset(game.experiment)
    for one in rounds(game, real.images, real.labels):
        if one.step % every == 0:
            found |= {sign.name for sign in watch.see(one.step, {**one.scalars(), **health_metrics(game)})}
    return found


@pytest.mark.parametrize(
    ("name", "words", "wanted"),
    [
        (
            "gan-minimax",
            ["family.lr=1e-3", "family.n_critic=10", "budget.rounds=90"],
            {"gradient_starvation", "strong_critic"},
        ),
        ("wgan", ["family.clip=1e-3", "family.lr=1e-3"], {"small_clip"}),
        ("wgan", ["family.clip=10", "family.lr=2e-2", "budget.rounds=130"], {"large_clip"}),
        ("gan", [], set()),
        ("dcgan", [], set()),
        ("cgan", [], set()),
        ("sgan", [], set()),
        ("wgan", [], set()),
        ("wgan", ["family.clip=0.1", "family.lr=1e-3"], set()),
        ("wgan_gp", ["family.lr=1e-3"], set()),
    ],
)
def test_sick_games_are_told_from_those_that_go_well(name, words, wanted):
    """Signs from losses and weights, on digits 8x8 over 60 rounds or a few more."""
    width = 64 if name.startswith("gan") else 8
    game = game_of(name, "data.image_size=8", "budget.rounds=60", *words, width=width)
    assert watched(game, every=10) == wanted


def test_a_generator_that_ignores_its_noise_has_collapsed(reference):
    """Signs from its scores, as `play` logs them."""
    game = game_of("dcgan", "metrics.samples=100")
    watch, seen = SignDetector(game), []
    real = dataset(game.experiment).images
    for step, samples in enumerate([real[:100], real[:1].expand(100, -1, -1, -1), real[:1].expand(100, -1, -1, -1)]):
        game.sample = lambda z, labels, samples=samples: samples
        seen += watch.see(step, {**GUESSING, **scores(game, reference)})
    (sign,) = seen
    assert sign.name == "mode_collapse"
