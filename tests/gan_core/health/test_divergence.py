"""A game that blows up is called diverged at its first number that is not finite, and its weights stay finite."""

import pickle
from itertools import islice

import pytest
import torch

from gan_core import loop
from gan_core.health.divergence import DivergedError, check_finite
from gan_core.health.signs import SignDetector, health_metrics
from gan_core.loop import Game, rounds
from tests.gan_core.games import dataset, new_game, play, small, state

ROUNDS, EVERY = 40, 4

WILD = ("family.lr=1", "family.beta1=0.9", "family.beta2=0.1")
NO_MOMENT = ("family.lr=1", "family.beta1=0.9", "family.beta2=0")
POINTS = "data.name=ring8"
SWEEP = {
    "gan": ("gan", POINTS, *WILD),
    "gan without a second moment": ("gan", POINTS, *NO_MOMENT),
    "gan, less momentum": ("gan", POINTS, *NO_MOMENT, "family.beta1=0.5"),
    "gan, unrolled": ("gan-unrolled", POINTS, *WILD),
    "wgan_gp": ("wgan_gp-ring8", *WILD),
    "wgan_gp, slower": ("wgan_gp-ring8", *WILD, "family.lr=0.1"),
    "wgan_gp, a great penalty": ("wgan_gp-ring8", *WILD, "family.gp_lambda=1e4"),
    "wgan_gp, no penalty": ("wgan_gp-ring8", *WILD, "family.gp_lambda=0", "family.n_critic=20"),
    "wgan, sgd, free": ("wgan-ring8", "family.optimizer=sgd", "family.lr=1", "family.clip=100"),
    "wgan, rmsprop, free": ("wgan-ring8", "family.lr=1", "family.clip=100"),
    "wgan, as in the paper": ("wgan-ring8",),
    "cwgan_gp": ("cwgan_gp-ring8", *NO_MOMENT),
    "cgan": ("cgan", *WILD, "data.image_size=8"),
    "bigan": ("bigan", *WILD, "data.image_size=8"),
    "began": ("began", *NO_MOMENT, "data.image_size=8"),
    "autoencoder": ("autoencoder", *WILD, "data.image_size=8"),
    "vae": ("vae", *WILD, "data.image_size=8"),
}


def first_loss(game: Game, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str] | None:
    """The round and the player of the first loss or gradient that is not finite, where nothing holds the game back."""
    found: list[tuple[int, str]] = []

    def see(step: int, player: str, loss: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
        gradient = torch.cat([one.grad.flatten() for one in game.players[player].parameters() if one.grad is not None])
        if not bool((loss.isfinite() & gradient.norm().isfinite()).all()):
            found.append((step, player))
        return torch.zeros(())

    monkeypatch.setattr(game.watch, "see_turn", see)
    monkeypatch.setattr(loop, "guarded_step", lambda optimizer, _: optimizer.step())
    play(game, ROUNDS)
    monkeypatch.undo()
    return found[0] if found else None


def outcome(game: Game) -> DivergedError | None:
    """How the game ends if every fourth round is logged."""
    real = dataset(game.experiment)
    try:
        for one in islice(rounds(game, real.images, real.labels), ROUNDS):
            if one.step % EVERY == 0:
                check_finite({**one.scalars(), **health_metrics(game)}, one.step)
    except DivergedError as error:
        return error
    return None


@pytest.mark.parametrize("name", SWEEP)
def test_whatever_blows_up_is_called_diverged_where_it_happens(name, monkeypatch):
    game, *words = SWEEP[name]
    experiment = small(game, "seed=3", *words)
    expected = first_loss(new_game(experiment), monkeypatch)
    played = new_game(experiment)
    error = outcome(played)
    finite = {key: bool(value.isfinite().all()) for key, value in state(played).items()}
    if error is None:
        assert expected is None
        assert all(finite.values())
        return
    weights = {key for player in played.players for key in finite if key.startswith(f"{player}.")}
    kept = {key for player in played.players.values() for key, _ in player.named_parameters()}
    assert all(finite[key] for key in weights if any(key.endswith(f".{part}") for part in kept))
    kind, _, player = error.what.split()[0].partition("/")
    if kind in ("loss", "gradient_norm"):
        assert (error.step, player) == expected
    else:  # squared, a gradient, weight or code overflows before a loss or a gradient's norm does
        assert kind in ("optimizer", "weight_norm", "state")
        assert expected is None or error.step <= expected[0]


def test_the_sweep_has_both_kinds():
    found = {}
    for name in ("wgan, as in the paper", "wgan_gp"):
        game, *words = SWEEP[name]
        found[name] = outcome(new_game(small(game, "seed=3", *words))) is None
    assert found == {"wgan, as in the paper": True, "wgan_gp": False}


@pytest.mark.parametrize("words", [("gan", POINTS), ("wgan-ring8",), ("wgan-ring8", "family.optimizer=sgd")])
def test_a_device_that_is_not_read_at_each_turn_plays_the_same_game(words):
    """On a CPU numbers are read at once. On other devices the step itself is masked."""
    read, masked = new_game(small(*words)), new_game(small(*words))
    masked.watch._is_sound = False
    losses = [[one.scalars() for one in play(game, 5)] for game in (read, masked)]
    assert losses[0] == losses[1]
    assert all(torch.equal(value, state(masked)[key]) for key, value in state(read).items())


# What counts


@pytest.mark.parametrize(
    ("part", "bad"),
    [("average", torch.inf), ("average", -torch.inf), ("average", torch.nan), ("k", torch.nan), ("moments", torch.inf)],
)
def test_state_that_no_loss_shows_counts(part, bad):
    game = new_game(small("began", "data.image_size=8"))
    play(game, 1)
    if part == "average":
        next(game.average.parameters()).data.view(-1)[3] = bad
    elif part == "k":
        game.players["critic"].net.get_buffer("k").fill_(bad)
    else:
        next(iter(game.optimizers["generator"].state.values()))["exp_avg_sq"].view(-1)[0] = bad
    with pytest.raises(DivergedError) as caught:
        play(game, 1)[0].scalars()
    assert caught.value.step == 2
    wanted = {"average": "average/generator", "k": "loss/critic", "moments": "optimizer/generator"}[part]
    assert caught.value.what.startswith(wanted)


def test_a_gradient_whose_norm_overflows_counts_while_the_loss_is_finite():
    game = new_game(small("wgan-ring8"))
    critic = game.players["critic"]
    with torch.no_grad():
        [*critic.parameters()][-2].fill_(1e30)
    before = {key: value.clone() for key, value in critic.state_dict().items()}
    with pytest.raises(DivergedError, match=r"^gradient_norm/critic is inf at step 1$"):
        play(game, 1)[0].scalars()
    after = critic.state_dict()
    clip = game.experiment.family.clip
    assert all(torch.equal(after[key], value.clamp(-clip, clip)) for key, value in before.items()), "no step was taken"


def test_it_is_found_later_at_its_own_step():
    """Nothing is read between two logged rounds."""
    game = new_game(small("gan", "data.name=ring8"))
    real = dataset(game.experiment)
    played = rounds(game, real.images, real.labels)
    for one in islice(played, 2):
        one.scalars()
    next(game.generator.parameters()).data.view(-1)[0] = torch.nan
    later = [*islice(played, 5)]
    with pytest.raises(DivergedError, match="loss/critic is nan at step 3"):
        later[-1].scalars()


def test_a_row_with_a_number_that_is_not_finite_is_divergence():
    check_finite({"fid": 3.0, "modes": 0}, 5)
    with pytest.raises(DivergedError, match="inception_score is nan at step 5"):
        check_finite({"fid": 3.0, "inception_score": float("nan")}, 5)


def test_the_error_keeps_what_it_says_on_its_way_through_a_queue():
    error = DivergedError("fid cannot be computed", 7, "features hold 3 values")
    error.checkpoint, error.rollbacks = "runs/x/checkpoints/step-000004", 1
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == "fid cannot be computed at step 7 after 1 rollback: features hold 3 values"
    assert (again.step, again.checkpoint) == (7, error.checkpoint)


def test_signs_of_health_take_any_number():
    game = new_game(small("gan", "data.name=ring8"))
    names = {"loss/critic", "loss/generator", *health_metrics_of(game), "fid", "variety", "modes", "high_quality"}
    detector = SignDetector(game)
    for step, value in enumerate((torch.inf, -torch.inf, torch.nan, 0.0), start=1):
        detector.see(step, dict.fromkeys(names, value))


def health_metrics_of(game: Game) -> set[str]:
    play(game, 1)
    return set(health_metrics(game))
