"""The importance of each hyper-parameter: functional analysis of variance (Hutter et al. 2014), computed by Optuna.

The bars are drawn here, not by Optuna's `plot_param_importances`: that draws one study a figure, so no families side by
side, draws bars however few trials there are, and changes Matplotlib's global style.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from optuna import create_study, logging
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial

from gan_core.measures import Objective
from pipelines.evaluate.detail.style import figure
from pipelines.search._outcome import Outcome
from pipelines.search.plots._style import is_log
from tune_spaces.domains import Choice, Domain, Space, Whole

LEAST_TRIALS = 16
"""The fewest trials of one family, each with a value, for which importance is shown. On a function of four fields, one
of them by far the most important, fANOVA ranked that field first for 9 of 20 seeds with 8 trials, for 16 with 12
trials, 19 with 16 and 20 with 24."""


def importance(outcomes: Sequence[Outcome], space: Space, objective: Objective) -> dict[str, float]:
    """The fraction of the variance of the objective that each field of one family explains, largest first. They sum to
    1.

    Of FID the logarithm is used, because a few bad trials would dominate the variance of FID itself. Empty with fewer
    than LEAST_TRIALS trials that ended with a value, or if all values or all settings are equal.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances  # imports scikit-learn: slow

    ended = ended_with_value(outcomes, space)
    searched = [name for name in space if len({one.settings[name] for one in ended}) > 1]
    if len(ended) < LEAST_TRIALS or len({one.value for one in ended}) == 1 or not searched:
        return {}
    distributions = {name: _distribution(space[name], [one.settings[name] for one in ended]) for name in searched}
    logging.set_verbosity(logging.WARNING)
    study = create_study()
    for one in ended:
        study.add_trial(
            create_trial(
                params={name: one.settings[name] for name in searched},
                distributions=distributions,
                value=math.log(max(one.value or 0.0, 1e-9)) if is_log(objective) else one.value,
            )
        )
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), params=searched)


def ended_with_value(outcomes: Sequence[Outcome], space: Space) -> list[Outcome]:
    """The trials that are completed or stopped and have a value and all fields of the space."""
    return [
        one
        for one in outcomes
        if one.state in ("completed", "stopped")
        and one.value is not None
        and all(name in one.settings for name in space)
    ]


def _distribution(domain: Domain, values: Sequence[Any]) -> BaseDistribution:
    """Optuna's form of a domain, widened to these values: start points may be outside the domain."""
    if isinstance(domain, Choice):
        return CategoricalDistribution(list(dict.fromkeys([*domain.values, *values])))
    low, high = min([domain.low, *values]), max([domain.high, *values])
    if isinstance(domain, Whole):
        return IntDistribution(int(low), int(high))
    return FloatDistribution(low, high, log=domain.log and low > 0)


def draw_importance(
    outcomes: Sequence[Outcome], spaces: Mapping[str, Space], colours: dict[str, str], objective: Objective
) -> Figure | None:
    """A panel of bars for each family, or a line that it has too few trials. None if all families have too few."""
    own = {name: [one for one in outcomes if one.settings["name"] == name] for name in spaces}
    found = {name: importance(own[name], space, objective) for name, space in spaces.items() if space}
    if not any(found.values()):
        return None
    heights = [max(len(spaces[name]), 2) if found[name] else 1.2 for name in found]
    sheet = figure(7.0, 0.42 * sum(heights) + 0.62 * len(found) + 0.9)
    panels = sheet.subplots(len(found), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axes, (name, shares) in zip(panels, found.items(), strict=True):
        trials = len(ended_with_value(own[name], spaces[name]))
        axes.set_title(f"{name}, {trials} trials")
        if not shares:
            few = (
                f"too few trials: {LEAST_TRIALS} with a {objective.label} are needed"
                if trials < LEAST_TRIALS
                else "all the same"
            )
            axes.text(0.01, 0.5, few, transform=axes.transAxes, va="center", color="#666666")
            axes.set_yticks([])
            axes.grid(visible=False)
            continue
        fields, values = list(shares)[::-1], list(shares.values())[::-1]
        axes.barh(fields, values, color=colours[name], height=0.62)
        for row, value in enumerate(values):
            axes.text(value + 0.01, row, f"{value:.0%}", va="center", fontsize=9.5)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    sheet.suptitle("Importance of each hyper-parameter", x=0.01, ha="left", fontsize=12)
    panels[-1].set_xlim(0, 1.08)
    panels[-1].set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    variance = f"log {objective.label}" if is_log(objective) else objective.label
    panels[-1].set_xlabel(f"share of the variance of {variance} that is explained (fANOVA)")
    return sheet
