"""Two workers play the same game as one: losses, gradients, statistics and FID."""

from typing import Any

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch.testing import assert_close

from gan_core.family import family_names
from tests.gan_core import two_ranks
from tests.gan_core.games import GAMES, tiered

# One process of pytest-xdist runs these tests, so that the games are played only once.
pytestmark = pytest.mark.xdist_group("two ranks")
every_game = pytest.mark.parametrize("name", tiered())


@pytest.fixture(scope="module")
def played(request, reference, tmp_path_factory) -> dict[str, Any]:
    """The results of one process and of each of two processes, of the games that the chosen tests ask for. The two are
    started once for all tests."""
    asked = [getattr(one, "callspec", None) for one in request.session.items if one.module is request.module]
    names = {one.params["name"] for one in asked if one and "size" not in one.params}
    others = any(one is None or "size" in one.params for one in asked)
    names |= {*two_ranks.MUTATED} if others else set()
    folder = tmp_path_factory.mktemp("world size")
    (folder / "reference").write_bytes(reference.to_bytes())
    given = folder, sorted(names), others
    two_ranks.work(0, 1, *given)
    multiprocessing.spawn(two_ranks.work, args=(2, *given), nprocs=2)
    files = {"one": "0-1.pt", "first": "0-2.pt", "second": "1-2.pt"}
    return {name: torch.load(folder / file, weights_only=True) for name, file in files.items()}


def case(played: dict[str, Any], name: str) -> tuple[Any, Any]:
    """The results of one process and of two."""
    return played["one"][name], played["first"][name]


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The norm of the difference, relative to the norm."""
    return float((one - other).norm() / one.norm())


@every_game
def test_in_float64_two_workers_have_one_workers_losses_and_gradients(played, name):
    one, two = case(played, f"{name}/fp64")
    assert len(one["losses"]) == len(two["losses"]) == two_ranks.ROUNDS
    for wanted, found in zip(one["losses"], two["losses"], strict=True):
        assert wanted.keys() == found.keys()
        for key in wanted:
            assert found[key] == pytest.approx(wanted[key], rel=1e-9, abs=1e-12)
    assert len(one["grads"]) == len(two["grads"]) >= two_ranks.ROUNDS
    for (player, wanted), (same, found) in zip(one["grads"], two["grads"], strict=True):
        assert player == same
        assert wanted.norm() > 0
        assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", family_names())
def test_in_float32_they_stay_together(played, name):
    """Differences are relative to the largest value of a series, because a Wasserstein estimate crosses zero.

    Adam's first steps are nearly the signs of gradients, so a gradient that is rounding noise becomes a full step. With
    such a gradient, that of the last bias of a Wasserstein critic, scores differed by 0.6%. Options of the families may
    bring more of them, so each is held to one worker's numbers in double precision only.
    """
    one, two = case(played, f"{name}/fp32")
    for key in one["losses"][0]:
        wanted, found = (torch.tensor([each[key] for each in who["losses"]]) for who in (one, two))
        assert (wanted - found).abs().max() / wanted.abs().max() < 1e-3, key
    first, others = (dict(reversed(who["grads"])) for who in (one, two))
    for player, wanted in first.items():
        assert difference(wanted, others[player]) < 1e-5


@every_game
def test_fid_does_not_depend_on_the_number_of_workers(played, name):
    one, two = case(played, f"{name}/fp64")
    assert one["fid"] > 0.1
    assert two["fid"] == pytest.approx(one["fid"], rel=1e-6)


def test_other_measures_do_not_depend_on_it_and_are_the_same_on_all_ranks(played):
    one, two = case(played, "measured")
    assert two == pytest.approx(one, rel=1e-9)
    assert played["second"]["measured"] == two
    assert set(one) == {"precision", "recall", "coverage", "ink"}


def test_a_measure_that_fails_fails_on_all_ranks(played):
    one, two = case(played, "unmeasured")
    assert one == two == "broken: RuntimeError: no such thing"
    assert played["second"]["unmeasured"] == "broken: it failed on the first worker"


@every_game
def test_what_warning_signs_are_seen_by_does_not_depend_on_it(played, name):
    one, two = case(played, f"{name}/fp64")
    assert "variety" in one["signs"]
    assert any(key.startswith("gradient_norm/") for key in one["signs"])
    assert two["signs"] == pytest.approx(one["signs"], rel=1e-6)
    assert played["second"][f"{name}/fp64"]["signs"] == two["signs"]


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        pytest.param(*one.values, precision, marks=one.marks)
        for precision, names in (("fp64", GAMES), ("fp32", family_names()))
        for one in tiered(*names)
    ],
)
def test_the_ranks_hold_the_same_bits(played, name, precision):
    first, second = played["first"][f"{name}/{precision}"], played["second"][f"{name}/{precision}"]
    assert first["losses"] == second["losses"]
    assert first["fid"] == second["fid"]
    assert first["state"].keys() == second["state"].keys()
    for key, value in first["state"].items():
        assert torch.equal(value, second["state"][key]), key


@every_game
def test_two_workers_end_with_one_workers_weights_and_statistics(played, name):
    one, two = case(played, f"{name}/fp64")
    assert one["state"].keys() == two["state"].keys()
    for key, wanted in one["state"].items():
        assert_close(two["state"][key], wanted, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize(("name", "size"), two_ranks.SIZED)
def test_two_workers_play_coloured_images_of_other_sizes_as_one(played, name, size):
    one, two = case(played, f"{name}/{size}")
    assert one.keys() == two.keys()
    for key, wanted in one.items():
        assert_close(two[key], wanted, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", family_names())
def test_a_game_goes_on_with_more_workers(played, name):
    wanted, found = played["one"][f"{name}/fp64"]["state"], played["first"][f"{name}/resized"]
    assert wanted.keys() == found.keys()
    for key, value in wanted.items():
        assert_close(found[key], value, rtol=1e-7, atol=1e-10)


def test_global_batch_norm_is_batch_norm_of_the_whole_batch(played):
    whole, first, second = (played[who]["batch norm"] for who in ("one", "first", "second"))
    assert whole.keys() == first.keys()
    for name, wanted in whole.items():
        if name.startswith("same/"):
            assert_close(first[name], wanted, rtol=1e-12, atol=1e-12)
            assert_close(second[name], wanted, rtol=1e-12, atol=1e-12)
        elif name.startswith("sum/"):
            assert_close(first[name] + second[name], wanted, rtol=1e-12, atol=1e-12)
        else:
            assert_close(torch.cat([first[name], second[name]]), wanted, rtol=1e-12, atol=1e-12)
    assert whole["slope"].norm() > 0.1
    assert whole["curve"].norm() > 0.1


def test_all_ranks_call_a_game_diverged_where_one_ranks_loss_is_infinite(played):
    errors = {name: found["diverged"] for name, found in played.items()}
    assert errors == dict.fromkeys(played, "loss/critic is inf at step 3")


# Mutants, which the comparison must detect


def test_a_penalty_in_a_backward_of_its_own_is_found(played):
    """With one worker the gradient is the same. With two it is wrong without an error (pytorch#47562)."""
    right = played["one"]["wgan_gp/fp64"]["grads"][0][1]
    one, two = case(played, "mutant/penalty apart")
    assert difference(right, one) < 1e-12
    assert difference(right, played["first"]["wgan_gp/fp64"]["grads"][0][1]) < 1e-12
    assert difference(right, two) > 1e-3


def test_a_batch_norm_of_each_ranks_own_is_found(played):
    one, two = case(played, "mutant/batch norm")
    assert one["losses"] == played["one"]["dcgan/fp64"]["losses"]
    apart = [difference(wanted, found) for (_, wanted), (_, found) in zip(one["grads"], two["grads"], strict=True)]
    assert apart[0] > 1e-3


def test_minibatch_discrimination_within_a_ranks_own_share_is_found(played):
    one, two = case(played, "mutant/closeness")
    right = played["one"]["dcgan-minibatch_features/fp64"]
    for wanted, found in zip(right["losses"], one["losses"], strict=True):
        assert found == pytest.approx(wanted, rel=1e-9)
    (_, wanted), (_, found) = one["grads"][0], two["grads"][0]
    assert difference(wanted, found) > 1e-3
