"""Population-based training (Jaderberg et al. 2017, arXiv:1711.09846), each family a population of its own."""

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
"""Fields that may change while weights stay: not sizes and nets, not the optimiser, whose state would be another's, and
not n_critic, by which turns and images seen are counted."""

QUANTILE, RESAMPLED, FACTORS = 0.25, 0.25, (0.8, 1.2)


class FamilyPopulation(PopulationBasedTraining):
    """At each `interval` a trial in the worst quarter of its family takes the weights and settings of one in the best
    quarter, then changes the settings a little, inside their domains.

    Asynchronous: Tune's synchronous form hangs once a search is restored. Donors stay of the same family, for their
    weights fit no other. The new config says where it comes from: `{"settings": ..., "donor": {"trial", "step"}}`.
    """

    def __init__(self, spaces: Mapping[str, Space], seed: int, *, metric: str, time: str, interval: int) -> None:
        super().__init__(
            time_attr=time,
            metric=metric,
            mode="min",
            perturbation_interval=interval,
            quantile_fraction=QUANTILE,
            custom_explore_fn=dict,  # Tune asks for one; ours needs the trial too
            require_attrs=False,  # a row without a FID is no moment to compare
            log_config=False,
        )
        self._spaces, self._random = spaces, random.Random(seed)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Tune refuses any searcher, because one with a model would not know that settings change: ours has none."""
        super().on_trial_add(cast(Any, SimpleNamespace(search_alg=None)), trial)

    def _save_trial_state(self, state: Any, time: int, result: dict[str, Any], trial: Any) -> float:
        """A FID that is no number is the worst there is, and not left out."""
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
            state.last_checkpoint = state.last_checkpoint or donor.checkpoint  # Tune saves one only once it leads
        super()._checkpoint_or_exploit(trial, tune_controller, upper, lower)

    def quantiles(self, family: str) -> tuple[list[Any], list[Any]]:
        """The worst and the best trials of a family that still go on; none while there are fewer than two."""
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
        settings |= {name: explored(domain, settings[name], self._random) for name, domain in changed.items()}
        step = self._trial_state[trial_to_clone].last_train_time
        return {"settings": settings, "donor": {"trial": trial_to_clone.trial_id, "step": step}}, {}


def explored(domain: Domain, value: Any, draw: random.Random) -> Any:
    """A value near `value` in the domain, or now and then another: times 0.8 or 1.2, a neighbour among choices."""
    if isinstance(domain, Choice):
        if draw.random() < RESAMPLED or value not in domain.values:
            return draw.choice(domain.values)
        place = domain.values.index(value) + draw.choice((-1, 1))
        return domain.values[min(max(place, 0), len(domain.values) - 1)]
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
