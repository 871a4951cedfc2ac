"""Population-based training (Jaderberg et al. 2017, arXiv:1711.09846); each family is a population of its own."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler

from gan_core.measures import Objective
from tune_spaces.domains import Choice, Domain, Space, Whole

MUTABLE = (
    *("lr", "critic_lr", "beta1", "beta2", "clip", "gp_lambda", "gamma", "lambda_k", "kl_weight", "r1_gamma"),
    *("r1_r2_gamma", "instance_noise", "noise_rounds", "dropout"),
)
"""Fields that may change while weights stay. Sizes and nets would need other weights, an optimiser would need its own
state, and n_critic would change how images seen are counted."""

_TRIES = 20
"""How often settings are drawn again that are another trial's. A few choices may be used up."""

QUANTILE, RESAMPLED, FACTORS = 0.25, 0.25, (0.8, 1.2)


class FamilyPopulation(PopulationBasedTraining):
    """At each `interval` a trial in the worst quarter of its family copies the weights and settings of one in the best
    quarter, its donor, then changes the settings a little, inside their domains.

    It is asynchronous, because Tune's synchronous form hangs once a search is restored. Donors are of the same family,
    because their weights fit no other. The new config names the donor: `{"settings": ..., "donor": {"trial", "step"}}`.
    """

    def __init__(
        self, spaces: Mapping[str, Space], seed: int, *, objective: Objective, time: str, interval: int
    ) -> None:
        super().__init__(
            time_attr=time,
            metric=objective.name,
            mode=objective.mode,
            perturbation_interval=interval,
            quantile_fraction=QUANTILE,
            custom_explore_fn=dict,  # Tune requires one; ours needs the trial too
            require_attrs=False,  # a row without a value is not compared
            log_config=False,
        )
        self._spaces, self._random = spaces, random.Random(seed)
        # By donor and step: the settings that play on from there. Two trials with the same ones would be alike.
        self._copies: dict[tuple[str, int], list[dict[str, Any]]] = {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Hides the searcher from Tune, which refuses any: one with a model would not know that settings change."""
        super().on_trial_add(cast(Any, SimpleNamespace(search_alg=None)), trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """A trial whose value is not finite has diverged: it copies a donor at once. Without a donor it ends."""
        value = result.get(self.metric)
        if value is None or math.isfinite(value):
            return super().on_trial_result(tune_controller, trial, result)
        self._trial_state[trial].last_score = -math.inf
        self._checkpoint_or_exploit(trial, tune_controller, [], [])  # it finds the donors itself
        return TrialScheduler.NOOP if trial.status == trial.PAUSED else TrialScheduler.STOP

    def _checkpoint_or_exploit(
        self, trial: Any, tune_controller: Any, upper_quantile: Any, lower_quantile: Any
    ) -> None:
        lower, upper = self.quantiles(trial.config["settings"]["name"])
        upper = [donor for donor in upper if not self._diverged(donor)]
        if self._diverged(trial):
            lower = [trial]
            upper = [donor for donor in upper if self._trial_state[donor].last_checkpoint or donor.checkpoint]
        if not upper:
            lower = []
        elif trial in lower:
            donor = self._random.choice(upper)
            upper, state = [donor], self._trial_state[donor]
            state.last_checkpoint = (
                state.last_checkpoint or donor.checkpoint
            )  # Tune saves one only when the trial leads
        super()._checkpoint_or_exploit(trial, tune_controller, upper, lower)

    def _diverged(self, trial: Any) -> bool:
        return self._trial_state[trial].last_score == -math.inf

    def quantiles(self, family: str) -> tuple[list[Any], list[Any]]:
        """The worst and the best running trials of a family; none while there are fewer than two."""
        scores = {
            trial: state.last_score
            for trial, state in self._trial_state.items()
            if trial.config["settings"]["name"] == family and state.last_score is not None and not trial.is_finished()
        }
        ranked = sorted(scores, key=lambda trial: scores[trial])
        count = min(math.ceil(len(ranked) * QUANTILE), len(ranked) // 2)
        return ranked[:count], ranked[len(ranked) - count :]

    def _get_new_config(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        donor, step = trial_to_clone.config["settings"], self._trial_state[trial_to_clone].last_train_time
        changed = {name: one for name, one in self._spaces[donor["name"]].items() if name in MUTABLE}
        copies = self._copies.setdefault((trial_to_clone.trial_id, step), [donor])
        for _ in range(_TRIES):
            settings = donor | {name: perturbed(domain, donor[name], self._random) for name, domain in changed.items()}
            if settings not in copies:
                break
        copies.append(settings)
        return {"settings": settings, "donor": {"trial": trial_to_clone.trial_id, "step": step}}, {}


def perturbed(domain: Domain, value: Any, draw: random.Random) -> Any:
    """A value near `value` in the domain: times 0.8 or 1.2, or a neighbour among choices. In one of four cases, any
    value of the domain."""
    if draw.random() < RESAMPLED or (isinstance(domain, Choice) and value not in domain.values):
        return domain.draw(draw)
    if isinstance(domain, Choice):
        index = domain.values.index(value) + draw.choice((-1, 1))
        return domain.values[min(max(index, 0), len(domain.values) - 1)]
    moved = value * draw.choice(FACTORS)
    return min(max(round(moved) if isinstance(domain, Whole) else moved, domain.low), domain.high)
