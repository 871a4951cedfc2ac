"""What is shipped plays in processes that cannot import it otherwise, and goes by S3 where machines share no disk."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from rich.console import Console

from gan_core.settings import SettingsError
from infra.cluster import Cluster
from pipelines.launch import CommandLine, begin, search_request, train_request
from pipelines.launch._shipped import IN_JOB
from pipelines.train import shipped_code
from tests.pipelines.small_runs import OWN_GAN, SMALL, rows

SHORT = ("budget.rounds=6", "budget.log_every=3", "budget.eval_every=6", "budget.checkpoint_every=6")


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder with the module `own_gan`, outside of all that a worker looks in."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own_gan.py").write_text(OWN_GAN)
    yield tmp_path / "mine"
    forget()


def forget() -> None:
    """As a process that has not imported the module."""
    sys.modules.pop("own_gan", None)
    sys.path[:] = [place for place in sys.path if not place.endswith("/mine") and "/cache" not in place]


def line(mine: Path, *words: str) -> CommandLine:
    return CommandLine.of(["own_gan:Own", f"compute.ship={mine}", *SMALL, *SHORT, *words], None, None)


@pytest.mark.parametrize("how", ["shipped", "sys-path"])
def test_workers_and_asynchronous_evaluation_have_the_module(how, ray_cluster, storage, reference, mine):
    from pipelines.train.command import train

    asked = line(mine, f"storage.path={storage}", f"name=by-{how}", "metrics.async=true")
    if how == "sys-path":
        sys.path.append(str(mine))
        asked = replace(asked, assignments=[word for word in asked.assignments if "compute.ship" not in word])
    request = train_request(asked)
    with begin(request) as (claimed, _):
        train(claimed.experiment, claimed.folder, Console(quiet=True))
    assert [row["step"] for row in rows(claimed.folder.path) if "fid" in row] == [6]


def test_trials_have_the_module(ray_cluster, storage, reference, mine):
    from pipelines.search.command import search

    words = (f"storage.path={storage}", "name=ship-search", "search.trials=2", "search.confirm=0")
    with begin(search_request(line(mine, *words))) as (claimed, _):
        search(claimed.experiment, claimed.folder, Console(quiet=True))
    assert [rows(trial)[-1]["step"] for trial in sorted((claimed.folder.path / "trials").iterdir())] == [6, 6]


def test_a_node_without_a_module_that_is_not_shipped_is_named(ray_cluster, storage, mine):
    sys.path.append(str(mine))
    words = [*SMALL, f"storage.path={storage}", "name=unshipped"]
    request = train_request(CommandLine.of(["own_gan:Own", *words], None, None))
    joined = Cluster(ray_cluster.cpus, 0, local=False)
    with pytest.raises(SettingsError, match=rf"^the node .* has no module 'own_gan'; nearest: compute.ship={mine}, or"):
        shipped_code.shipped_code(request.experiment, request.folder, joined)
    nothing_own = train_request(CommandLine.of(["wgan", *words], None, None))
    assert shipped_code.shipped_code(nothing_own.experiment, nothing_own.folder, joined) is None


def test_a_job_on_another_machine_has_the_modules_from_s3(moto_server, mine, tmp_path, monkeypatch):
    moto_server.be_asked(monkeypatch)
    boto3.session.Session().client("s3", endpoint_url=moto_server.url).create_bucket(Bucket="shipped")
    where = ["storage.path=s3://shipped/runs", f"storage.endpoint_url={moto_server.url}", "name=far"]
    asked = line(mine, *where, f"tracking.uri=sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path / "cache"))
    with begin(train_request(asked)) as (submitted, _):
        pass
    forget()
    shutil.rmtree(mine)
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path / "cache-there"))
    monkeypatch.setenv(IN_JOB, "1")
    there = train_request(CommandLine.of(where[:2], None, "far"))
    assert there.experiment.to_yaml() == submitted.experiment.to_yaml()
    assert Path(sys.modules["own_gan"].__file__).is_relative_to(tmp_path / "cache-there")
