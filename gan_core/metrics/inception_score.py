"""Inception Score: exp of the mean KL(p(y|x) || p(y)) under a classifier. Salimans et al. 2016, section 4."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gan_core import ranks
from gan_core.metrics.distances import tile_rows


@dataclass(frozen=True)
class InceptionScore:
    """Mean and standard deviation over splits (divided by their number, as published); 1 to the number of classes."""

    mean: float
    std: float


def split_of(count: int, splits: int = 10, seed: int | None = 2020) -> Tensor:
    """The split (count,), int64, of each image. Split i ends before image N * (i + 1) // splits, as published.

    `seed` shuffles the images first, because a split of images that are sorted by class would hold one class and score
    1. None keeps their order, as the original code does. The default is torch-fidelity's, so that scores can be checked
    against it. Raises ValueError if a split would hold fewer than two images.
    """
    if splits < 1 or count < 2 * splits:
        if count < 2:
            raise ValueError(f"an Inception Score needs 2 images or more, there is {count}")
        raise ValueError(
            f"splits={splits} with {count} images: each split needs two images; "
            f"nearest: splits={max(1, min(splits, count // 2))}"
        )
    ends = torch.arange(1, splits + 1) * count // splits
    split = torch.bucketize(torch.arange(count), ends, right=True)
    if seed is None:
        return split
    shuffled = torch.empty_like(split)
    shuffled[torch.from_numpy(np.random.RandomState(seed).permutation(count))] = split
    return shuffled


@dataclass(frozen=True)
class Predictions:
    """Sums over class probabilities p, one row per split, float64. Those of batches and ranks can be added."""

    count: Tensor
    """Number of images (S,)."""
    certainty: Tensor
    """Sum of p log p (S,), in nats."""
    total: Tensor
    """Sum of p (S, K)."""

    @staticmethod
    def none(splits: int, classes: int, device: torch.device) -> Predictions:
        """The sums of no images."""
        zero = torch.zeros(splits, classes, dtype=torch.float64, device=device)
        return Predictions(zero[:, 0], zero[:, 0], zero)

    @staticmethod
    def of(logits: Tensor, split: Tensor, splits: int = 10) -> Predictions:
        """The sums of logits or log-probabilities (N, K). `split` (N,) is each row's split.

        Raises ValueError for rows that are no distribution, and for probabilities: give their log.
        """
        if logits.dim() != 2 or not logits.shape[1]:
            raise ValueError(f"logits are of shape {tuple(logits.shape)}; wanted: (N, K)")
        if _are_probabilities(logits):
            raise ValueError("these are probabilities: give their log, or the logits")
        shape = (splits, logits.shape[1])
        total = torch.zeros(shape, dtype=torch.float64, device=logits.device)
        certainty, count = torch.zeros_like(total[:, 0]), torch.zeros_like(total[:, 0])
        rows = tile_rows(logits.shape[1])
        for part, where in zip(logits.detach().split(rows), split.to(logits.device).split(rows), strict=True):
            p = part.double().softmax(dim=1)
            bad = int((~p.isfinite()).any(dim=1).sum())
            if bad:
                raise ValueError(f"{bad} rows of logits are not finite")
            # A product rather than index_add, whose order of summation varies on a GPU.
            belongs = torch.nn.functional.one_hot(where, splits).double().T  # (S, n)
            total += belongs @ p
            certainty += belongs @ torch.xlogy(p, p).sum(dim=1)
            count += belongs.sum(dim=1)
        return Predictions(count, certainty, total)

    def merge(self, other: Predictions) -> Predictions:
        """The sums of both sets."""
        return Predictions(self.count + other.count, self.certainty + other.certainty, self.total + other.total)

    def over_ranks(self) -> Predictions:
        """The sums of all ranks' sets, the same on every rank."""
        return Predictions(ranks.total(self.count), ranks.total(self.certainty), ranks.total(self.total))

    def score(self) -> InceptionScore:
        """exp of the mean KL, which is mean(sum p log p) - sum q log q with q the mean p, over splits.

        Raises ValueError for a split of fewer than two images.
        """
        if bool((self.count < 2).any()):
            raise ValueError(f"a split holds {int(self.count.min())} images; 2 or more are needed in each")
        marginal = self.total / self.count[:, None]
        divergence = self.certainty / self.count - torch.xlogy(marginal, marginal).sum(dim=1)
        scores = divergence.exp()
        return InceptionScore(float(scores.mean()), float(scores.std(correction=0)))


def inception_score(logits: Tensor, splits: int = 10, seed: int | None = 2020) -> InceptionScore:
    """Inception Score of logits or log-probabilities (N, K) of generated images. For `seed` see `split_of`.

    Raises ValueError for rows that are no distribution or fewer than two images a split.
    """
    return Predictions.of(logits, split_of(len(logits), splits, seed), splits).score()


def _are_probabilities(logits: Tensor) -> bool:
    """Whether every row is non-negative and sums to 1. Logits never are by chance."""
    if logits.shape[1] == 1 or not len(logits):
        return False
    return bool((logits >= 0).all()) and bool(((logits.double().sum(dim=1) - 1).abs() < 1e-3).all())
