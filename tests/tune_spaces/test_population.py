"""Population-based training: which trial copies whose weights, and how its settings change."""

import math
import pickle
import random
from types import SimpleNamespace

import pytest
from ray import cloudpickle
from ray.tune.experiment import Trial
from ray.tune.search import SearchGenerator

from gan_core.family import build_family, family_class
from gan_core.measures import FID, Objective
from tune_spaces.domains import Choice, Range, SearchedFields, Whole
from tune_spaces.engines import scheduler, searcher
from tune_spaces.population import perturbed

OWN = {"width": Whole(8, 64), "net": Choice(("auto", "mlp")), "data.batch_size": Choice((16, 32))}
SPACES = {
    name: SearchedFields(
        "wide",
        own={"wgan": {"width": Whole(8, 64), "net": Choice(("auto", "mlp")), "data.batch_size": Choice((16, 32))}},
    ).space(family_class(name)())
    for name in ("wgan", "wgan_gp")
}


class Controller:
    """The part of Tune's controller that population-based training uses."""

    def __init__(self, trials: list[Trial]) -> None:
        self.trials, self.saved = trials, []
        self.search_alg = SearchGenerator(searcher("random", SPACES, 0))

    def get_trials(self) -> list[Trial]:
        return self.trials

    def _schedule_trial_save(self, trial: Trial, result=None):
        self.saved.append(trial.trial_id)
        return f"checkpoint of {trial.trial_id}"

    def pause_trial(self, trial: Trial, should_checkpoint: bool) -> None:
        assert not should_checkpoint
        trial.set_status(Trial.PAUSED)


def population(count: int, families=("wgan", "wgan_gp"), seed=0, objective=FID):
    """`count` running trials of each family, and their scheduler."""
    of = scheduler("pbt", 2000, 200, spaces=SPACES, seed=seed, objective=objective)
    engine = searcher("sobol", {name: SPACES[name] for name in families}, seed)
    trials = []
    for number in range(count * len(families)):
        trial = Trial("nothing", stub=True, trial_id=f"t{number}", config=engine.suggest(str(number)))
        trial.create_placement_group_factory()
        trial.set_status(Trial.RUNNING)
        trials.append(trial)
    controller = Controller(trials)
    for trial in trials:
        of.on_trial_add(controller, trial)
    return of, controller


def name_of(trial: Trial) -> str:
    return trial.config["settings"]["name"]


def tell(of, controller, trial: Trial, step: int, fid: float | None) -> str:
    return of.on_trial_result(controller, trial, {"step": step} | ({} if fid is None else {"fid": fid}))


@pytest.mark.parametrize("seed", range(4))
def test_the_worst_takes_the_weights_of_a_better_trial_of_its_own_family(seed):
    """All of wgan are better than any of wgan_gp: across families wgan_gp would take wgan's."""
    of, controller = population(4, seed=seed)
    groups = {name: [one for one in controller.trials if name_of(one) == name] for name in SPACES}
    first = {one.trial_id: dict(one.config["settings"]) for one in controller.trials}
    for base, group in zip((10.0, 1000.0), groups.values(), strict=True):
        for rank, trial in enumerate(group):
            tell(of, controller, trial, 200, base - rank)
        assert tell(of, controller, group[0], 400, base) == "NOOP"
    for name, group in groups.items():
        worst, *middle, best = group
        assert worst.config["donor"] == {"trial": best.trial_id, "step": 200}
        assert worst.config["settings"]["name"] == name
        assert worst.status == Trial.PAUSED
        taken = worst.run_metadata.checkpoint_manager._latest_checkpoint_result.checkpoint
        assert taken == f"checkpoint of {best.trial_id}"
        for trial in (best, *middle):
            assert trial.config["settings"] == first[trial.trial_id]
            assert "donor" not in trial.config


def test_of_a_measure_whose_high_values_are_good_the_lowest_copies_the_highest():
    of, controller = population(4, ("wgan",), objective=Objective("my_score", "max"))
    lowest, *middle, highest = controller.trials
    for rank, trial in enumerate(controller.trials):
        of.on_trial_result(controller, trial, {"step": 200, "my_score": float(rank)})
    of.on_trial_result(controller, lowest, {"step": 400, "my_score": 0.0})
    assert lowest.config["donor"] == {"trial": highest.trial_id, "step": 200}
    (diverged, _) = middle
    of.on_trial_result(controller, diverged, {"step": 400, "my_score": -math.inf})
    assert diverged.config["donor"] == {"trial": highest.trial_id, "step": 200}


@pytest.mark.parametrize("seed", range(20))
def test_settings_change_inside_their_domain_and_sizes_are_the_donors(seed):
    of, controller = population(4, ("wgan",), seed)
    worst, *_, best = controller.trials
    for rank, trial in enumerate(controller.trials):
        tell(of, controller, trial, 200, -float(rank))
    tell(of, controller, worst, 400, 0.0)
    donor, settings = best.config["settings"], worst.config["settings"]
    assert all(settings[field] in domain for field, domain in SPACES["wgan"].items())
    for field in ("width", "net", "n_critic", "data.batch_size"):
        assert settings[field] == donor[field]
    assert settings["lr"] != donor["lr"]
    assert best.config["settings"] is not worst.config["settings"]
    build_family({field: value for field, value in settings.items() if field != "data.batch_size"})


@pytest.mark.parametrize("seed", range(6))
def test_two_trials_that_take_the_same_weights_play_on_differently(seed):
    """A trial with the donor's weights and settings would be the donor again."""
    spaces = {"wgan": {"beta1": Choice((0.0, 0.5)), "clip": Choice((0.01, 0.02, 0.03))}}
    of = scheduler("pbt", 2000, 200, spaces=spaces, seed=seed)
    engine = searcher("sobol", spaces, seed)
    trials = [Trial("nothing", stub=True, trial_id=f"t{n}", config=engine.suggest(str(n))) for n in range(6)]
    controller = Controller(trials)
    for trial in trials:
        trial.create_placement_group_factory()
        trial.set_status(Trial.RUNNING)
        of.on_trial_add(controller, trial)
    *worse, donor = trials[2:]
    of._trial_state[donor].last_train_time = 200
    copies = [of._get_new_config(trial, donor)[0]["settings"] for trial in worse]
    settings = [tuple(sorted(one.items())) for one in [*copies, donor.config["settings"]]]
    assert len(set(settings)) == 4


def test_trials_without_a_fid_are_not_compared():
    of, controller = population(2, ("wgan",))
    first, second = controller.trials
    assert tell(of, controller, first, 200, None) == "CONTINUE"
    tell(of, controller, second, 200, 5.0)
    assert of.quantiles("wgan") == ([], [])
    assert "donor" not in first.config


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_trial_that_diverges_takes_the_weights_of_a_good_one_at_once(bad):
    """Long before the next interval, with as many as have diverged."""
    of, controller = population(6, ("wgan",))
    *lost, good, best = controller.trials
    for trial, fid in ((good, 9.0), (best, 3.0)):
        trial.run_metadata.checkpoint_manager._latest_checkpoint_result = SimpleNamespace(checkpoint="own", metrics={})
        tell(of, controller, trial, 200, fid)
    for step, trial in enumerate(lost, start=1):
        assert tell(of, controller, trial, step, bad) == "NOOP"
        assert trial.status == Trial.PAUSED
        assert trial.config["donor"]["trial"] in (good.trial_id, best.trial_id)


def test_a_trial_that_diverges_first_ends():
    bad = float("inf")
    of, controller = population(3, ("wgan",))
    one, other, third = controller.trials
    assert tell(of, controller, one, 10, bad) == "STOP"
    assert tell(of, controller, other, 10, bad) == "STOP", "a trial that has diverged is no donor"
    assert tell(of, controller, third, 200, 5.0) == "CONTINUE"
    assert "donor" not in one.config | other.config | third.config


def test_nothing_changes_before_the_next_interval():
    of, controller = population(2, ("wgan",))
    worst, best = controller.trials
    for step, said in (
        (199, ["CONTINUE", "CONTINUE"]),
        (200, ["CONTINUE", "CONTINUE"]),
        (399, ["CONTINUE", "CONTINUE"]),
    ):
        assert [tell(of, controller, worst, step, 2.0), tell(of, controller, best, step, 1.0)] == said
    assert "donor" not in worst.config
    assert tell(of, controller, worst, 400, 2.0) == "NOOP"
    assert "donor" in worst.config


def test_a_donor_that_did_not_lead_yet_gives_its_last_evaluations_weights():
    """Tune itself would skip: it saves a checkpoint only of a trial that is in the best quarter as it reports."""
    of, controller = population(2, ("wgan",))
    first, second = controller.trials
    first.run_metadata.checkpoint_manager._latest_checkpoint_result = SimpleNamespace(checkpoint="its own", metrics={})
    tell(of, controller, first, 200, 1.0)
    assert tell(of, controller, second, 200, 2.0) == "NOOP"
    assert second.run_metadata.checkpoint_manager._latest_checkpoint_result.checkpoint == "its own"


def test_trials_that_wait_have_their_turn():
    """A population larger than the cluster: a trial makes way at each interval."""
    of, controller = population(4, ("wgan",))
    controller.trials[3].set_status(Trial.PENDING)
    assert tell(of, controller, controller.trials[0], 200, 1.0) == "PAUSE"


def test_trials_that_have_ended_give_no_weights():
    of, controller = population(3, ("wgan",))
    for rank, trial in enumerate(controller.trials[:2]):
        tell(of, controller, trial, 200, float(rank) + 10)
    best = controller.trials[2]
    tell(of, controller, best, 200, 1.0)
    best.set_status(Trial.TERMINATED)
    worst, better = of.quantiles("wgan")
    assert best not in worst + better


def test_a_population_is_stored_with_a_search():
    of = scheduler("pbt", 2000, 200, spaces=SPACES)
    assert pickle.loads(cloudpickle.dumps(of))._spaces == SPACES


# Changes


def test_numbers_move_by_a_fifth_or_are_drawn_again_and_stay_inside():
    draw = random.Random(0)
    domain = Range(1e-5, 1e-2, log=True)
    found = [perturbed(domain, 1e-3, draw) for _ in range(2000)]
    moved = [value for value in found if value in (1e-3 * 0.8, 1e-3 * 1.2)]
    assert 0.70 < len(moved) / len(found) < 0.80, "three in four"
    assert all(value in domain for value in found)
    drawn = [value for value in found if value not in moved]
    assert 0.4 < sum(value < 10**-3.5 for value in drawn) / len(drawn) < 0.6, "by the logarithm"
    assert {perturbed(domain, 1e-2, draw) <= 1e-2 for _ in range(100)} == {True}
    assert {perturbed(domain, 0.5, draw) in domain for _ in range(100)} == {True}, "from a point outside too"


def test_choices_move_to_a_neighbour():
    draw = random.Random(0)
    found = [perturbed(Choice((1, 2, 3, 5)), 2, draw) for _ in range(400)]
    assert set(found) == {1, 2, 3, 5}
    assert found.count(1) + found.count(3) > 300
    assert {perturbed(Choice((1, 2)), 7, draw) for _ in range(50)} == {1, 2}


def test_whole_numbers_stay_whole():
    draw = random.Random(0)
    found = {perturbed(Whole(100, 2000), 1000, draw) for _ in range(300)}
    assert {type(value) for value in found} == {int}
    assert {800, 1200} <= found
    assert all(value in Whole(100, 2000) for value in found)
