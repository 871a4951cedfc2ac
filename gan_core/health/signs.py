"""Warning signs: what a run's logged steps show, and what to try.

The thresholds separate good runs from bad ones among 45 runs: gan, dcgan, cgan, sgan, wgan, wgan_gp and cwgan_gp over
40 to 3,000 rounds on digits 8x8 and 16x16, ring8 and grid25, and wgan on photos 64x64. Each symptom states what was
measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils import get_total_norm

from gan_core.loop import Game

NEAR_CLIP = 0.99
"""A critic's weight counts as clipped if it is at least this share of `clip`."""

GUESSING = 2 * math.log(2)
"""The loss of a critic that cannot distinguish real from fake. Goodfellow et al. 2014, theorem 1."""


def health_metrics(game: Game) -> dict[str, float]:
    """Metrics that show whether training is healthy. Call it after a round.

    `gradient_norm/NAME` (of the last turn) and `weight_norm/NAME` of each player; for a family that clips,
    `clipped_share`, the share of the critic's weights at ±clip. All ranks get the same values, because gradients are
    those of the global batch.
    """
    found: dict[str, torch.Tensor] = {}
    for name, player in game.players.items():
        weights = list(player.parameters())
        found[f"gradient_norm/{name}"] = get_total_norm([one.grad for one in weights if one.grad is not None])
        found[f"weight_norm/{name}"] = get_total_norm([one.detach() for one in weights])
    clip = game.experiment.family.model_dump().get("clip")
    if clip is not None:
        critic = torch.cat([one.detach().flatten() for one in game.players["critic"].parameters()])
        found["clipped_share"] = (critic.abs() >= NEAR_CLIP * clip).double().mean()
    return dict(zip(found, torch.stack([value.double() for value in found.values()]).tolist(), strict=True))


@dataclass(frozen=True)
class Sign:
    """A warning sign."""

    name: str
    seen: str
    """What was observed, with its numbers."""
    advice: str
    """What to try: settings as one types them on the command line."""

    def __str__(self) -> str:
        return f"{self.name.replace('_', ' ')}: {self.seen}; {self.advice}"


class SignDetector:
    """Detects warning signs in the logged steps of one run.

    A sign is reported once: when two steps in a row, of those that measure it, show it.
    """

    def __init__(self, game: Game) -> None:
        family = game.experiment.family
        self._settings = family.model_dump()
        self._real_or_fake = family.real_or_fake
        self._classes = game.classes
        self._critic_steps = game.players["critic"].steps if "critic" in game.players else 0
        self._largest: dict[str, float] = {}
        self._before: set[_Symptom] = set()
        self._reported: set[str] = set()

    def see(self, step: int, metrics: Mapping[str, float]) -> tuple[Sign, ...]:
        """The signs to report at this step. `metrics`: losses, `health_metrics`, and scores if there are any."""
        measured = dict(metrics)
        if self._real_or_fake is not None:
            measured["real_or_fake"] = metrics[self._real_or_fake]
        for name, value in measured.items():
            self._largest[name] = max(value, self._largest.get(name, value))
        observation = _Observation(step, measured, self._largest, self._settings, self._classes, self._critic_steps)
        signs = []
        for symptom in SYMPTOMS:
            if not symptom.needs <= measured.keys():
                continue
            seen = symptom.seen(observation)
            if seen and symptom in self._before and symptom.sign not in self._reported:
                self._reported.add(symptom.sign)
                signs.append(Sign(symptom.sign, seen, _advice(self._settings, symptom.remedies)))
            (self._before.add if seen else self._before.discard)(symptom)
        return tuple(signs)


@dataclass(frozen=True)
class _Observation:
    """What is known at one logged step."""

    step: int
    metrics: Mapping[str, float]
    largest: Mapping[str, float]
    """The largest value of each metric so far."""
    settings: Mapping[str, Any]
    """The family's settings."""
    classes: int
    critic_steps: int
    """Critic steps per round."""

    @property
    def gradient_share(self) -> float:
        """The generator's gradient in units of its weights, by norm."""
        gradient, weights = (self.metrics[name] for name in _GRADIENT)
        return gradient / weights if weights else math.inf


Remedy = tuple[str, Callable[[Any], Any]]
"""A field and the change of its value. An unchanged value means that the remedy does not apply."""


@dataclass(frozen=True)
class _Symptom:
    """One way in which a sign shows."""

    sign: str
    needs: frozenset[str]
    """The metrics that it is computed from."""
    seen: Callable[[_Observation], str]
    """Gives what was observed, with numbers; empty if the symptom is absent."""
    remedies: tuple[Remedy, ...]


_GRADIENT = ("gradient_norm/generator", "weight_norm/generator")


def _always_right(observation: _Observation) -> str:
    """The loss is below 1% of that of guessing: the critic gives the right answer a probability of 0.993 or more.

    Good runs fell to 0.03 (gan lr=1e-3, n_critic=5), once to 0.004 (dcgan lr=2e-3, n_critic=5), and recovered. gan with
    the minimax loss and n_critic=5 was at 0.0016 after 100 rounds, at 1e-5 after 500.
    """
    loss = observation.metrics["real_or_fake"]
    return f"loss {loss:.2g}, where guessing is {GUESSING:.2f}" if loss < 0.01 * GUESSING else ""


def _starved(observation: _Observation) -> str:
    """The critic is always right, and the norm of the generator's gradient is below 0.1% of that of its weights.

    Good runs had 2% to 1,000%, and 0.2% or more at their start. gan with the minimax loss and n_critic=5 had 0.03%
    after 100 rounds, 0.0002% after 500.
    """
    if not _always_right(observation) or observation.gradient_share >= 1e-3:
        return ""
    gradient, weights = (observation.metrics[name] for name in _GRADIENT)
    return (
        f"the generator's gradient is {gradient:.2g}, its weights {weights:.3g}; critic's {_always_right(observation)}"
    )


def _fooled(observation: _Observation) -> str:
    """The loss is above twice that of guessing: the critic is certain and wrong. Good runs stayed below 1.7, except one
    that stayed below 2.5 (dcgan lr=2e-2)."""
    loss = observation.metrics["real_or_fake"]
    return f"critic's loss {loss:.3g}, where guessing is {GUESSING:.2f}" if loss > 2 * GUESSING else ""


def _scored_below_real(observation: _Observation) -> str:
    """Fakes score above reals by more than a quarter of the largest lead that reals ever had. In good runs it was an
    eighth at most, except at single steps."""
    estimate, most = (values["wasserstein_estimate"] for values in (observation.metrics, observation.largest))
    wrong = estimate < -0.25 * most and estimate < 0
    return f"wasserstein_estimate {estimate:.2g}, it was {most:.2g}" if wrong else ""


def _collapsed(observation: _Observation) -> str:
    """Variety (1: that of the real images) fell below half of its largest value, or is below 0.5% after 2,000 rounds.

    Good runs kept 57% or more, except one of gan on ring8 that collapsed and recovered. The slowest, gan on digits, had
    0.3% for 600 rounds and 17% after 1,400. gan on ring8, collapsed to a point for good, had 0.02% to 0.04% after
    2,000.
    """
    variety, most = (values["variety"] for values in (observation.metrics, observation.largest))
    if most >= 0.1 and variety < most / 2:
        return f"variety of the samples {variety:.2g}, it was {most:.2g}"
    return f"variety of the samples {variety:.1g}" if observation.step >= 2000 and variety < 0.005 else ""


def _few_modes(observation: _Observation) -> str:
    """More than half of the samples lie on modes of the mixture, but on half of its modes or fewer."""
    modes, good = observation.metrics["modes"], observation.metrics["high_quality"]
    return (
        f"samples lie on {modes:.0f} of {observation.classes} modes"
        if good > 0.5 and 2 * modes <= observation.classes
        else ""
    )


def _piled_up(observation: _Observation) -> str:
    """Half of the critic's weights lie at ±clip, and the norm of the generator's gradient is below 0.02% of that of its
    weights.

    Weights at ±clip alone are common: up to 98% of them in good runs with the paper's clip of 0.01, with gradients of
    0.1% or more. With clip=1e-3 gradients were 0.0005% to 0.02%. Gulrajani et al. 2017, arXiv:1704.00028, section 3 and
    figure 1.
    """
    share, clip = observation.metrics["clipped_share"], observation.settings["clip"]
    if share < 0.5 or observation.gradient_share >= 2e-4:
        return ""
    return f"{share:.0%} of the critic's weights lie at ±{clip:g}, the generator's gradient vanishes"


def _too_free(observation: _Observation) -> str:
    """Fewer than 0.5% of the critic's weights lie at ±clip after enough steps to get there, or the norm of the
    generator's gradient is above 1,000 times that of its weights, because gradients grow in a deep critic.

    The share was 4% or more with clip=0.3, up to 0.4% with clip=1. At 64x64 the gradient was 0.1 to 110 times the
    weights with the paper's clip of 0.01, 1,100 to 260,000 times with 0.1.
    """
    share, clip = observation.metrics["clipped_share"], observation.settings["clip"]
    if observation.gradient_share > 1000:
        return (
            f"the generator's gradient is {observation.gradient_share:.1g} times its weights under a clip of {clip:g}"
        )
    had_time = observation.settings["lr"] * observation.critic_steps * observation.step >= clip
    return f"{share:.1%} of the critic's weights lie at ±{clip:g}" if had_time and share < 0.005 else ""


_SLOWER: Remedy = ("lr", lambda now: now / 4)
_FEWER: Remedy = ("n_critic", lambda now: max(now // 2, 1))
_MORE: Remedy = ("n_critic", lambda now: max(now, 5))
_UNSATURATED: Remedy = ("loss", lambda now: "non_saturating" if now == "minimax" else now)
_NOISE: Remedy = ("instance_noise", lambda now: now or 0.1)
_COMPARING: Remedy = ("minibatch_features", lambda now: now or 16)
_UNROLLED: Remedy = ("unrolled", lambda now: now or 5)

SYMPTOMS = (
    _Symptom(
        "gradient_starvation",
        frozenset({"real_or_fake", *_GRADIENT}),
        _starved,
        (_UNSATURATED, _FEWER, _NOISE, _SLOWER),
    ),
    _Symptom("strong_critic", frozenset({"real_or_fake"}), _always_right, (_UNSATURATED, _FEWER, _NOISE, _SLOWER)),
    _Symptom("fooled_critic", frozenset({"real_or_fake"}), _fooled, (_MORE, _SLOWER)),
    _Symptom("fooled_critic", frozenset({"wasserstein_estimate"}), _scored_below_real, (_MORE, _SLOWER)),
    _Symptom(
        "mode_collapse",
        frozenset({"variety"}),
        _collapsed,
        (_COMPARING, _UNROLLED, _NOISE, _MORE, _SLOWER),
    ),
    _Symptom(
        "mode_collapse",
        frozenset({"modes", "high_quality"}),
        _few_modes,
        (_COMPARING, _UNROLLED, _NOISE, _MORE, _SLOWER),
    ),
    _Symptom(
        "small_clip", frozenset({"clipped_share", *_GRADIENT}), _piled_up, (("clip", lambda now: min(10 * now, 100)),)
    ),
    _Symptom("large_clip", frozenset({"clipped_share", *_GRADIENT}), _too_free, (("clip", lambda now: now / 10),)),
)


def _advice(settings: Mapping[str, Any], remedies: tuple[Remedy, ...]) -> str:
    """The remedies that the family has fields for and does not use yet, as text."""
    changes = [(field, settings[field], change(settings[field])) for field, change in remedies if field in settings]
    words = [f"family.{field}={_written(new)}" for field, now, new in changes if new != now]
    return f"try {' or '.join(words)}"


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
