"""Schedules against PyTorch's own, and at the rounds that their definitions name."""

import pytest
import torch
from torch.optim import lr_scheduler

from gan_core.techniques.schedules import cosine, cosine_decay, halvings, linear_decay, product, warm_up


def of_torch(build, rounds: int) -> list[float]:
    """The learning rates of rounds 0, 1, ... by a scheduler of PyTorch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, found = build(optimizer), []
    for _ in range(rounds):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("schedule", "build"),
    [
        (linear_decay(0, 7, to=0.2), lambda one: lr_scheduler.LinearLR(one, 1.0, 0.2, total_iters=7)),
        (cosine_decay(0, 12, to=0.1), lambda one: lr_scheduler.CosineAnnealingLR(one, 12, eta_min=0.1)),
        (halvings(4), lambda one: lr_scheduler.StepLR(one, 4, gamma=0.5)),
        (warm_up(5), lambda one: lr_scheduler.LinearLR(one, 0.2, 1.0, total_iters=4)),
    ],
    ids=["linear", "cosine", "halvings", "warm-up"],
)
def test_they_are_those_of_pytorch(schedule, build):
    assert [schedule(played) for played in range(12)] == pytest.approx(of_torch(build, 12))


@pytest.mark.parametrize("decay", [linear_decay, cosine_decay])
def test_a_decay_begins_and_ends_where_it_says(decay):
    schedule = decay(10, 20, to=0.25)
    assert [schedule(played) for played in (0, 10, 15, 20, 10**9)] == pytest.approx([1, 1, 0.625, 0.25, 0.25])
    assert decay(10, 20)(20) == pytest.approx(0)


def test_a_value_goes_along_half_a_cosine_or_stays():
    assert [cosine(0.0, 8.0, 6)(played) for played in (0, 2, 3, 6, 99)] == pytest.approx([0, 2, 4, 8, 8])
    assert [cosine(0.9, 0.99, 0)(played) for played in (0, 1, 99)] == [0.9, 0.9, 0.9]


def test_schedules_multiply():
    schedule = product(warm_up(4), linear_decay(2, 6))
    assert [schedule(played) for played in range(7)] == pytest.approx([0.25, 0.5, 0.75, 0.75, 0.5, 0.25, 0])
