"""Population-based training (Jaderberg et al. 2017, arXiv:1711.09846); each family is a population of its own."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from ray.tune.schedulers import PopulationBasedTraining

from tune_spaces.domains import Choice, Domain, Space, Whole

MUTABLE = (
    *("lr", "beta1", "beta2", "clip", "gp_lambda", "gamma", "lambda_k", "kl_weight"),
    *("instance_noise", "noise_rounds", "dropout"),
)
"""Fields that may change while weights stay. Sizes and nets would need other weights, an optimiser would need its own
state, and n_critic would change how images seen are counted."""

QUANTILE, RESAMPLED, FACTORS = 0.25, 0.25, (0.8, 1.2)


class FamilyPopulation(PopulationBasedTraining):
    """At each `interval` a trial in the worst quarter of its family copies the weights and settings of one in the best
    quarter, its donor, then changes the settings a little, inside their domains.

    It is asynchronous, because Tune's synchronous form hangs once a search is restored. Donors are of the same family,
    because their weights fit no other. The new config names the donor: `{"settings": ..., "donor": {"trial", "step"}}`.
    """

    def __init__(self, spaces: Mapping[str, Space], seed: int, *, metric: str, time: str, interval: int) -> None:
        super().__init__(
            time_attr=time,
            metric=metric,
            mode="min",
            perturbation_interval=interval,
            quantile_fraction=QUANTILE,
            custom_explore_fn=dict,  # Tune requires one; ours needs the trial too
            require_attrs=False,  # a row without a FID is not compared
            log_config=False,
        )
        self._spaces, self._random = spaces, random.Random(seed)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Hides the searcher from Tune, which refuses any: one with a model would not know that settings change."""
        super().on_trial_add(cast(Any, SimpleNamespace(search_alg=None)), trial)

    def _save_trial_state(self, state: Any, time: int, result: dict[str, Any], trial: Any) -> float:
        """Counts a FID that is not a number as the worst, where Tune would leave it out."""
        score = super()._save_trial_state(state, time, result, trial)
        state.last_score = -math.inf if math.isnan(score) else score
        return state.last_score

    def _checkpoint_or_exploit(
        self, trial: Any, tune_controller: Any, upper_quantile: Any, lower_quantile: Any
    ) -> None:
        lower, upper = self.quantiles(trial.config["settings"]["name"])
        if trial in lower:
            donor = self._random.choice(upper)
            upper, state = [donor], self._trial_state[donor]
            state.last_checkpoint = (
                state.last_checkpoint or donor.checkpoint
            )  # Tune saves one only when the trial leads
        super()._checkpoint_or_exploit(trial, tune_controller, upper, lower)

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
        settings = copy.deepcopy(trial_to_clone.config["settings"])
        changed = {name: one for name, one in self._spaces[settings["name"]].items() if name in MUTABLE}
        settings |= {name: perturbed(domain, settings[name], self._random) for name, domain in changed.items()}
        step = self._trial_state[trial_to_clone].last_train_time
        return {"settings": settings, "donor": {"trial": trial_to_clone.trial_id, "step": step}}, {}


def perturbed(domain: Domain, value: Any, draw: random.Random) -> Any:
    """A value near `value` in the domain: times 0.8 or 1.2, or a neighbour among choices. In one of four cases, any
    value of the domain."""
    if isinstance(domain, Choice):
        if draw.random() < RESAMPLED or value not in domain.values:
            return draw.choice(domain.values)
        index = domain.values.index(value) + draw.choice((-1, 1))
        return domain.values[min(max(index, 0), len(domain.values) - 1)]
    if isinstance(domain, Whole):
        if draw.random() < RESAMPLED:
            return draw.randint(domain.low, domain.high)
        moved = round(value * draw.choice(FACTORS))
        return min(max(moved, domain.low), domain.high)
    if draw.random() >= RESAMPLED:
        return min(max(value * draw.choice(FACTORS), domain.low), domain.high)
    if domain.log:
        return min(max(math.exp(draw.uniform(math.log(domain.low), math.log(domain.high))), domain.low), domain.high)
    return draw.uniform(domain.low, domain.high)
