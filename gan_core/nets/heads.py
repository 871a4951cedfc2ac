"""Modules that families add to a network: labels at the input, labels or class logits at the output, minibatch
discrimination."""

from __future__ import annotations

import math
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core import ranks
from gan_core.settings import SettingsError


class LabelConcatenation(nn.Module):
    """Appends the one-hot label to the input: (x, labels) -> the output of a net that takes (N, inputs + classes).

    For the z of a generator, and for the flattened sample of an MLP. Mirza & Osindero 2014, arXiv:1411.1784, figure 1.
    """

    def __init__(self, net: nn.Module, classes: int) -> None:
        super().__init__()
        self.net = net
        self.classes = classes

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:  # (N, ...), (N,)
        return self.net(torch.cat([x.flatten(1), F.one_hot(labels, self.classes).to(x.dtype)], dim=1))


class ProjectionCritic(nn.Module):
    """A critic that scores a sample with its label: score(x) + <embedding(label), features(x)>.

    (N, *shape), (N,) -> (N,), each sample independently. Miyato & Koyama 2018, arXiv:1802.05637, equation 3.
    """

    def __init__(self, critic: nn.Module, classes: int) -> None:
        super().__init__()
        self.features, self.score = _split_off_score(critic)
        self.embedding = nn.Embedding(classes, self.score.in_features)
        nn.init.normal_(self.embedding.weight, 0.0, 0.02)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        features = self.features(x)  # (N, features)
        return self.score(features).flatten() + (features * self.embedding(labels)).sum(dim=1)


class ClassLogits(nn.Module):
    """A critic's features, then a linear layer of one logit per class: (N, *shape) -> (N, classes).

    The logits start near -log(classes), so that their exponentials sum to 1: real and fake are equally likely.
    """

    def __init__(self, critic: nn.Module, classes: int) -> None:
        super().__init__()
        self.features, score = _split_off_score(critic)
        self.logits = nn.Linear(score.in_features, classes)
        nn.init.normal_(self.logits.weight, 0.0, 0.02)
        nn.init.constant_(self.logits.bias, -math.log(classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.features(x))


class MinibatchDiscrimination(nn.Module):
    """Appends the closeness to all samples of the *global* batch to each sample's features: (N, A) -> (N, A + kernels).

    M_i = f(x_i) T with T in (A, kernels, 5); o(x_i)_b = sum over j of exp(-||M_ib - M_jb||_1). Salimans et al. 2016,
    arXiv:1606.03498, section 3.2.
    """

    def __init__(self, features: int, kernels: int) -> None:
        super().__init__()
        self.kernels = kernels
        self.project = nn.Linear(features, kernels * 5, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        mine = self.project(features).unflatten(1, (self.kernels, 5))  # (N, kernels, 5)
        rows, others = mine.permute(2, 1, 0), ranks.gathered(mine).permute(2, 1, 0)  # (5, kernels, N), (.., world N)
        # A loop over the 5 is 2.5 times faster than a sum over a last axis of 5.
        parts = [(one[:, :, None] - other[:, None]).abs() for one, other in zip(rows, others, strict=True)]
        closeness = (-reduce(torch.add, parts)).exp().sum(dim=2)  # (kernels, N)
        return torch.cat([features, closeness.T], dim=1)


def with_minibatch_discrimination(critic: nn.Module, kernels: int) -> nn.Module:
    """The critic with minibatch discrimination before its last layer. Give it real and fake samples separately."""
    features, score = _split_off_score(critic)
    wider = nn.Linear(score.in_features + kernels, 1, bias=score.bias is not None)
    return nn.Sequential(*features, MinibatchDiscrimination(score.in_features, kernels), wider, nn.Flatten(0))


def _split_off_score(critic: nn.Module) -> tuple[nn.Sequential, nn.Linear]:
    """A critic's features (N, count), and the linear layer that maps them to a score. Every critic ends with it."""
    layers = list(critic) if isinstance(critic, nn.Sequential) else []
    if len(layers) < 3 or not isinstance(layers[-2], nn.Linear):
        raise SettingsError(
            "family.net: this family builds on the critic's features",
            nearest="a critic that is a Sequential of its features, a Linear and a layer that flattens the scores",
        )
    return nn.Sequential(*layers[:-2]), layers[-2]
