"""Runs and searches that Python plays, on the suite's cluster, of classes and objects that only this process has."""

import json
import signal
import threading

import pytest
import ray
import torch
from rich.console import Console

from gan_core import data
from infra.cluster import expected
from pipelines import interrupts, load, search, train
from pipelines.evaluate.reference import prepare_reference
from pipelines.launch import train_request
from pipelines.library._words import command_line
from pipelines.runs import RunFolder
from pipelines.train.play import play
from tests.pipelines.library.own import defined
from tests.pipelines.small_runs import digest, rows, timeless

Tiny, Nets = defined()
NETS = Nets(1)
DRAWS = torch.Generator().manual_seed(4)
IMAGES = torch.randint(0, 256, (96, 8, 8), dtype=torch.uint8, generator=DRAWS)
WORDS = (
    *("family.latent=4", "data.batch_size=16", "metrics.extractor=pixels", "metrics.samples=64"),
    *("budget.log_every=3", "budget.eval_every=6", "budget.checkpoint_every=6"),
)


class Seen:
    """Keeps what it is told, and interrupts at a step as a user would."""

    def __init__(self, stop: int | None = None) -> None:
        self.told: list[tuple[str, str, int]] = []
        self.stop = stop

    def on_log(self, run, step, metrics):
        self.told.append((run.name, "log", step))
        if step == self.stop:
            signal.raise_signal(signal.SIGINT)

    def on_evaluation(self, run, step, metrics):
        self.told.append((run.name, "evaluation", step))

    def on_checkpoint(self, run, step, checkpoint):
        assert json.loads((checkpoint / "checkpoint.json").read_text())["step"] == step
        self.told.append((run.name, "checkpoint", step))


@pytest.fixture(autouse=True)
def as_in_a_program():
    """Ray Tune leaves its own handler after a search."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_run_of_a_notebooks_class_is_interrupted_resumed_and_bit_for_bit(ray_cluster, storage, capfd):
    """Workers play the class, the networks and the images of this process."""
    where, seen = f"storage.path={storage}", Seen(stop=9)
    settings = {"family.net": NETS, "budget.rounds": 18}
    run = train(Tiny(rate=3e-3), *WORDS, where, "name=own", settings=settings, data=IMAGES, callbacks=[seen])
    assert ray.is_initialized(), "the program's cluster stays"
    assert expected() is None, "its size counts, not this machine's"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not interrupts.stop_requested.is_set()
    assert "interrupted; to go on: ganfleet train --resume own" in capfd.readouterr().err
    assert seen.told[:3] == [("own", "log", 3), ("own", "log", 6), ("own", "evaluation", 6)]
    assert run.metrics.step.max() < 18

    again, found = Seen(), []
    thread = threading.Thread(target=lambda: found.append(run.resume(callbacks=[again])))
    thread.start()
    thread.join()
    assert again.told[-3:] == [("own", "log", 18), ("own", "evaluation", 18), ("own", "checkpoint", 18)]
    assert found[0].metrics.step.tolist() == [3, 6, 9, 12, 15, 18]
    assert isinstance(run.generator[0], torch.nn.Linear)
    assert torch.equal(load("own", where).sample(5), found[0].sample(5))
    assert run.fid == load(run.folder).fid

    experiment = run._experiment.override("name=uninterrupted")
    alone = RunFolder(experiment.folder)
    alone.create(experiment.to_yaml())

    made = prepare_reference(experiment.metrics, data.load(experiment.data), storage, Console(quiet=True)).content
    list(play(experiment, alone, made, target=None))
    assert digest(alone.checkpoint(18)) == digest(run.checkpoint), "neither callbacks nor the interruption change a bit"
    assert list(map(timeless, rows(alone.path))) == list(map(timeless, rows(run.folder)))
    more = run.resume("budget.rounds=24", "compute.workers=2")
    assert more.metrics.step.tolist()[-2:] == [21, 24], "each worker of a group has the class"


def test_a_search_of_a_notebooks_class(ray_cluster, storage):
    """It is interrupted and resumed; its tables, best settings, generator and pictures are there."""
    seen = Seen(stop=3)
    small = ("search.trials=3", "search.confirm=1", "search.confirm_seeds=1", "budget.rounds=12")
    found = search(
        [Tiny, "wgan"],
        *WORDS,
        *small,
        f"storage.path={storage}",
        "name=own-search",
        settings={"family.net": NETS, "search.points": [{"family": Tiny, "lr": 1e-3}]},
        data=IMAGES,
        callbacks=[seen],
    )
    assert set(found.trials.state) <= {"interrupted", "completed", "stopped"}
    assert "interrupted" in set(found.trials.state) or len(found.trials) < 3
    again = Seen()
    found = found.resume(callbacks=[again])
    table = found.trials.set_index("trial")
    assert set(table.family) == {Tiny.name, "wgan"}
    assert set(table.state) <= {"completed", "stopped"}
    assert table.loc["t0001", "family.lr"] == 1e-3
    for trial, row in table.iterrows():
        (last,) = [one for one in rows(found.folder / "trials" / trial) if one["step"] == row.step]
        assert last["fid"] == row.fid
    best = json.loads((found.folder / "best.json").read_text())
    assert (found.fid, found.confirmed.iloc[0].trial) == (best["fid"], best["trial"])
    assert found.confirmed.iloc[0].seeds == best["seeds"]
    assert found.best["family.name"] == table.loc[best["trial"]].family
    assert found.sample(2).shape == (2, 1, 8, 8)
    names = {name for name, what, _ in again.told if what == "checkpoint"}
    assert f"{best['trial']}-{best['seeds'][0]}" in names, "a confirmed run has its own name"
    assert ("log", 9) in {(what, step) for _, what, step in again.told}, "also the rows between two evaluations"
    assert found.plot("samples").size[0] > 100
    page = load(found.folder)._repr_html_()
    assert page.count("data:image/png;base64,") == 1
    assert "t0003" in page
    longer = train_request(command_line(["budget.rounds=30"], found.best)).experiment
    assert longer.family.name == found.best["family.name"], "they are settings of a run"
