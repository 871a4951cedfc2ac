"""What fits into a cluster, counted against a packing by hand; nothing is started."""

import itertools

import pytest

from gan_core.settings import SettingsError
from infra.cluster import Cluster
from pipelines.launch._request import train_experiment
from pipelines.launch._search_request import search_experiment
from pipelines.settings._capacity import (
    check_capacity,
    concurrent_trials,
    gpus_of,
    trial_resources,
    trial_slots,
    worker_resources,
)


def searching(*words):
    return search_experiment(["wgan"], ["name=x", "data.batch_size=64", "search.trials=100", *words])


def local(cpus, gpus=0):
    return Cluster(cpus, gpus, local=True)


def remote(*nodes):
    return Cluster(sum(cpus for cpus, _ in nodes), sum(gpus for _, gpus in nodes), local=False, nodes=nodes)


@pytest.mark.parametrize(
    ("room", "words", "slots"),
    [
        (local(2), [], 2),
        (local(2), ["compute.workers=2"], 1),
        (local(7), ["compute.workers=2"], 3),
        (local(8), ["compute.cpus=3"], 2),
        (local(16, 1), [], 1),
        (local(16, 1), ["compute.gpus=0"], 16),
        (local(16, 1), ["compute.device=cpu"], 16),
        (local(16, 1), ["compute.gpus=0.25"], 4),
        (local(16, 2), ["compute.gpus=0.3"], 6),
        (local(16, 2), ["compute.gpus=0.3333333"], 6),
        (local(16, 2), ["compute.gpus=0.6"], 2),
        (local(3, 1), ["compute.gpus=0.25"], 3),
        (local(16, 4), ["compute.workers=2"], 2),
        (remote((2, 0), (2, 0)), ["compute.cpus=2"], 2),
        (remote((3, 0), (3, 0)), ["compute.cpus=2"], 2),
        (remote((8, 0), (1, 4)), ["compute.gpus=1"], 1),
        (remote((4, 2), (4, 2)), ["compute.workers=4", "compute.gpus=1"], 1),
    ],
)
def test_as_many_trials_run_as_find_room(room, words, slots):
    experiment = searching(*words)
    check_capacity(experiment, room)
    assert trial_slots(experiment, room) == slots
    assert concurrent_trials(experiment, room) == slots


@pytest.mark.parametrize(
    ("cpus", "workers", "each", "gpus"),
    list(itertools.product([1, 2, 5, 16], [1, 2, 4], [None, 1, 3], [None, 0.25, 0.5, 1])),
)
def test_what_runs_at_once_never_needs_more_than_there_is(cpus, workers, each, gpus):
    """The workers of all concurrent trials get their CPUs and GPUs, and one more trial would not."""
    if gpus not in (None, 1) and workers > 1:
        return
    given = [f"compute.{name}={value}" for name, value in (("cpus", each), ("gpus", gpus)) if value is not None]
    experiment, room = searching(f"compute.workers={workers}", *given), local(cpus, 2)
    try:
        check_capacity(experiment, room)
    except SettingsError:
        assert workers * (each or 1) > cpus or workers * (gpus or 0) > 2
        return
    slots, share = concurrent_trials(experiment, room), trial_resources(experiment, room)
    assert slots * workers * share.cpus_per_worker <= cpus
    assert slots * workers * share.gpus <= 2
    more = (slots + 1) * workers
    assert more * (each or 1) > cpus or more * gpus_of(experiment, room) > 2


@pytest.mark.parametrize(
    ("room", "words", "told"),
    [
        (local(2), ["compute.workers=4"], "needs 4 CPUs, the cluster has 2; nearest: compute.workers=2"),
        (local(4), ["compute.workers=2", "compute.cpus=3"], "nearest: compute.cpus=2"),
        (local(2), ["compute.workers=4", "compute.cpus=3"], "nearest: compute.workers=2 compute.cpus=null"),
        (local(2), ["compute.device=cuda"], "nearest: compute.device=cpu"),
        (local(2), ["compute.gpus=0.5"], "compute.gpus=0.5 with compute.workers=1 needs 0.5 GPUs"),
        (
            local(8, 1),
            ["compute.gpus=1", "compute.workers=2"],
            "needs 2 GPUs, the cluster has 1; nearest: compute.workers=1",
        ),
        (local(2), ["search.max_concurrent=3"], "nearest: search.max_concurrent=2"),
        (local(8, 1), ["compute.gpus=0.5", "search.max_concurrent=3"], "nearest: search.max_concurrent=2"),
        (remote((2, 0), (2, 0)), ["compute.cpus=4"], "on nodes of 2, 2; nearest: compute.cpus=2"),
        (remote((8, 0), (1, 1)), ["compute.cpus=2", "compute.gpus=1"], "finds room on none of the cluster's nodes"),
    ],
)
def test_what_the_cluster_can_never_meet_is_refused_with_what_fits(room, words, told):
    with pytest.raises(SettingsError) as caught:
        check_capacity(searching(*words), room)
    assert told in str(caught.value)


def test_a_training_run_takes_what_it_asked_for():
    run = train_experiment(["wgan"], ["compute.workers=2", "compute.cpus=3"])
    assert (worker_resources(run, local(16)).cpus_per_worker, worker_resources(run, local(16)).gpus) == (3, 0)
    assert worker_resources(train_experiment(["wgan"], []), local(16, 1)).use_gpu
    assert not worker_resources(train_experiment(["wgan"], ["compute.gpus=0"]), local(16, 1)).use_gpu
