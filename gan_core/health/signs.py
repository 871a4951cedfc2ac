"""Warning signs while training: what is seen in a run's logged steps, and what to try.

The thresholds lie between runs that went well and runs that did not: 45 of gan, dcgan, cgan, sgan, wgan, wgan_gp and
cwgan_gp, of 40 to 3,000 rounds on digits 8x8 and 16x16, ring8 and grid25, and of wgan on photos 64x64. What was
measured stands beside each.
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
"""A critic's weight of this share of `clip` or more was clipped."""

GUESSING = 2 * math.log(2)
"""The loss of a critic that cannot tell real from fake. Goodfellow et al. 2014, theorem 1."""


def health_metrics(game: Game) -> dict[str, float]:
    """Norms of the gradients of each player's last turn and of its weights, `gradient_norm/NAME` and
    `weight_norm/NAME`; where the critic's weights are clipped, the share of them that lies at ±clip, `clipped_share`.

    To be asked after a round. Every rank gets the same: gradients are the global batch's.
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
    """What was seen, with its numbers."""
    advice: str
    """What to try: settings as the command line takes them."""

    def __str__(self) -> str:
        return f"{self.name.replace('_', ' ')}: {self.seen}; {self.advice}"


class SignDetector:
    """Follows one run through its logged steps.

    A sign is told once, when it is seen at two steps in a row of those that measure it.
    """

    def __init__(self, game: Game) -> None:
        family = game.experiment.family
        self._settings = family.model_dump()
        self._real_or_fake = family.real_or_fake
        self._classes = game.classes
        self._critic_steps = game.players["critic"].steps if "critic" in game.players else 0
        self._largest: dict[str, float] = {}
        self._before: set[_Symptom] = set()
        self._told: set[str] = set()

    def see(self, step: int, metrics: Mapping[str, float]) -> tuple[Sign, ...]:
        """The signs that are told at a step whose metrics these are: losses, `health_metrics`, and scores if it has any."""
        measured = dict(metrics)
        if self._real_or_fake is not None:
            measured["real_or_fake"] = metrics[self._real_or_fake]
        for name, value in measured.items():
            self._largest[name] = max(value, self._largest.get(name, value))
        look = _Look(step, measured, self._largest, self._settings, self._classes, self._critic_steps)
        told = []
        for symptom in SYMPTOMS:
            if not symptom.needs <= measured.keys():
                continue
            seen = symptom.seen(look)
            if seen and symptom in self._before and symptom.sign not in self._told:
                self._told.add(symptom.sign)
                told.append(Sign(symptom.sign, seen, _advice(self._settings, symptom.remedies)))
            (self._before.add if seen else self._before.discard)(symptom)
        return tuple(told)


@dataclass(frozen=True)
class _Look:
    """What one logged step knows."""

    step: int
    metrics: Mapping[str, float]
    largest: Mapping[str, float]
    """Of each metric so far."""
    settings: Mapping[str, Any]
    """The family's."""
    classes: int
    critic_steps: int
    """A round."""

    @property
    def gradient_share(self) -> float:
        """The generator's gradient in units of its weights, by norm."""
        return self.metrics["gradient_norm/generator"] / self.metrics["weight_norm/generator"]


Remedy = tuple[str, Callable[[Any], Any]]
"""A field, and what to make of its value; the same value if it is no remedy."""


@dataclass(frozen=True)
class _Symptom:
    sign: str
    needs: frozenset[str]
    seen: Callable[[_Look], str]
    """Words with numbers, empty if nothing is seen."""
    remedies: tuple[Remedy, ...]


_GRADIENT = ("gradient_norm/generator", "weight_norm/generator")


def _always_right(look: _Look) -> str:
    """1% of the loss of guessing: right with a probability of 0.993 and more on real and fake alike. Runs that went
    well fell to 0.03 (gan lr=1e-3, n_critic=5), once to 0.004 (dcgan lr=2e-3, n_critic=5) and came back; gan's
    minimax game with n_critic=5 stood at 0.0016 after 100 rounds, 1e-5 after 500."""
    loss = look.metrics["real_or_fake"]
    return f"loss {loss:.2g}, where guessing is {GUESSING:.2f}" if loss < 0.01 * GUESSING else ""


def _starved(look: _Look) -> str:
    """A generator's gradient of 0.1% of its weights, by norm, while the critic is always right. Runs that went well
    had 2% to 1,000%, beginnings 0.2% and more; gan's minimax game with n_critic=5 had 0.03% after 100 rounds, 0.0002%
    after 500."""
    if not _always_right(look) or look.gradient_share >= 1e-3:
        return ""
    gradient, weights = (look.metrics[name] for name in _GRADIENT)
    return f"the generator's gradient is {gradient:.2g}, its weights {weights:.3g}; critic's {_always_right(look)}"


def _fooled(look: _Look) -> str:
    """Twice the loss of guessing: the critic is sure and wrong. Runs that went well stayed below 2.5 (dcgan
    lr=2e-2), all others below 1.7."""
    loss = look.metrics["real_or_fake"]
    return f"critic's loss {loss:.3g}, where guessing is {GUESSING:.2f}" if loss > 2 * GUESSING else ""


def _scored_below_real(look: _Look) -> str:
    """Fakes score above reals by a quarter of the most that reals ever scored above fakes. In runs that went well it
    was an eighth at most, but for single steps."""
    estimate, most = (values["wasserstein_estimate"] for values in (look.metrics, look.largest))
    wrong = estimate < -0.25 * most and estimate < 0
    return f"wasserstein_estimate {estimate:.2g}, it was {most:.2g}" if wrong else ""


def _collapsed(look: _Look) -> str:
    """Variety (1: the real images') fell to less than half of what it was, or never came: below 0.5% after 2,000
    rounds. Runs that went well kept 57% and more, but for one of gan on ring8 that collapsed and came back; the
    slowest, gan on digits, had 0.3% for 600 rounds, 17% after 1,400. gan on ring8, collapsed to a point for good, had
    0.02% to 0.04% after 2,000."""
    variety, most = (values["variety"] for values in (look.metrics, look.largest))
    if most >= 0.1 and variety < most / 2:
        return f"variety of the samples {variety:.2g}, it was {most:.2g}"
    return f"variety of the samples {variety:.1g}" if look.step >= 2000 and variety < 0.005 else ""


def _few_modes(look: _Look) -> str:
    """More than half of the samples lie on a mixture's modes, and on half of them or fewer."""
    modes, good = look.metrics["modes"], look.metrics["high_quality"]
    return f"samples lie on {modes:.0f} of {look.classes} modes" if good > 0.5 and 2 * modes <= look.classes else ""


def _piled_up(look: _Look) -> str:
    """Half of the critic's weights at ±clip, and a generator's gradient of 0.02% of its weights, by norm. That they
    pile up is usual: at the paper's clip of 0.01, up to 98% in runs that went well, with gradients of 0.1% and more.
    With clip=1e-3 they were 0.0005% to 0.02%. Gulrajani et al. 2017, arXiv:1704.00028, section 3 and figure 1."""
    share, clip = look.metrics["clipped_share"], look.settings["clip"]
    if share < 0.5 or look.gradient_share >= 2e-4:
        return ""
    return f"{share:.0%} of the critic's weights lie at ±{clip:g}, the generator's gradient vanishes"


def _too_free(look: _Look) -> str:
    """Fewer than 0.5% of the critic's weights at ±clip, after as many steps as a weight needs to get there: 4% and more
    with clip=0.3, up to 0.4% with clip=1. Or a generator's gradient of 1,000 times its weights, by norm: deep critics
    multiply. At 64x64 it was 0.1 to 110 times with the paper's clip of 0.01, 1,100 to 260,000 times with 0.1."""
    share, clip = look.metrics["clipped_share"], look.settings["clip"]
    if look.gradient_share > 1000:
        return f"the generator's gradient is {look.gradient_share:.1g} times its weights under a clip of {clip:g}"
    had_time = look.settings["lr"] * look.critic_steps * look.step >= clip
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
    """The remedies that a family has fields for and does not use yet."""
    changes = [(field, settings[field], change(settings[field])) for field, change in remedies if field in settings]
    words = [f"family.{field}={_written(new)}" for field, now, new in changes if new != now]
    return f"try {' or '.join(words)}"


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
