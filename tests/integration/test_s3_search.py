"""A search whose data and results lie in S3, tracked by a server that keeps its runs in PostgreSQL and their files in
S3. Its driver is killed, and another machine finishes it from S3 alone."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import boto3
import pytest
from mlflow import MlflowClient

from gan_core.experiment import Data
from infra.stores.protocol import silent
from pipelines.data.write import plan_pack, write_pack
from pipelines.runs._folder import RunFolder
from pipelines.runs._lookup import run_folder
from pipelines.settings._storage import Storage
from pipelines.settings._stores import open_store
from tests.faults.driver_kills import differences, ended, evaluated, finish, kill_at, words
from tests.pipelines.small_runs import command, environment, table

pytestmark = pytest.mark.usefixtures("own_cluster")

TRIALS = 3
LAST = "step-000060"
BUDGET = ("budget.rounds=60", "data.image_size=8")


def fetched(client, bucket: str, prefix: str, into: Path) -> Path:
    """What a bucket holds below a prefix, as a folder; by boto3 alone."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/"):
        for one in page["Contents"]:
            file = into / one["Key"].removeprefix(f"{prefix}/")
            file.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, one["Key"], str(file))
    return into


def test_a_killed_search_is_finished_from_s3_in_an_empty_folder(tmp_path, moto_server, tracking, monkeypatch):
    moto_server.be_asked(monkeypatch)
    client = boto3.session.Session().client("s3", endpoint_url=moto_server.url)
    client.create_bucket(Bucket="results")
    storage = Storage(path="s3://results/of mine", endpoint_url=moto_server.url)
    write_pack(plan_pack(Data(image_size=8), 10**6), open_store("s3://results/digits", storage), "digits", silent)
    data = ("data.name=packed", "data.path=s3://results/digits")
    tracked = f"tracking.uri={tracking.url}"

    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path / "first cache"))
    (tmp_path / "first").mkdir()
    begun = words("hunt", storage.path, TRIALS, *storage.assignments, *data, *BUDGET, tracked)
    hit, _ = kill_at(begun, tmp_path / "first", run_folder(storage, "hunt").journal, evaluations=4, delay=0)
    assert hit, (tmp_path / "first" / "out").read_text()
    shutil.rmtree(os.environ["GANFLEET_CACHE"])
    shutil.rmtree(tmp_path / "first")
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path / "second cache"))
    (tmp_path / "second").mkdir()
    finish(["search", "--resume", "hunt", *storage.assignments], tmp_path / "second")
    assert list((tmp_path / "second").iterdir()) == [], "nothing is left where it was called"

    hunt = fetched(client, "results", "of mine/hunt", tmp_path / "hunt")
    (tmp_path / "quiet place").mkdir()
    quiet = words("quiet", tmp_path, TRIALS, *data, *BUDGET, f"storage.endpoint_url={moto_server.url}", tracked)
    finish(quiet, tmp_path / "quiet place")
    assert differences(hunt, tmp_path / "quiet", MlflowClient(tracking.url), TRIALS) == []
    for row in table(hunt):
        assert row["checkpoint"] == f"{storage.path}/hunt/trials/{row['trial']}/checkpoints/{LAST}"
        ours, theirs = (RunFolder(one / "trials" / row["trial"]) for one in (hunt, tmp_path / "quiet"))
        for step in (f"checkpoints/{LAST}/state.safetensors", "samples/step-000020.png", f"samples/{LAST}.png"):
            assert (ours.path / step).read_bytes() == (theirs.path / step).read_bytes()
    assert len(ended(hunt)) == TRIALS
    assert (hunt / "best.png").is_file()
    assert (hunt / "learned" / "progress.png").is_file()
    assert (hunt / "run.log").is_file()
    assert (hunt / "ray.log").is_file()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_driver_that_was_taken_over_ends_and_changes_nothing(tmp_path, moto_server, monkeypatch, workers):
    """Whatever it and its trials had yet to put: its search is another's now, its log too."""
    moto_server.be_asked(monkeypatch)
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path / "cache"))
    client = boto3.session.Session().client("s3", endpoint_url=moto_server.url)
    client.create_bucket(Bucket=f"taken-{workers}")
    storage = Storage(path=f"s3://taken-{workers}/runs", endpoint_url=moto_server.url)
    endless = ("budget.rounds=100000", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", f"compute.workers={workers}")
    begun = command(*words("hunt", storage.path, 2, *storage.assignments, *endless, "search.max_concurrent=1"))
    driver = subprocess.Popen(begun, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    journal = run_folder(storage, "hunt").journal
    try:
        while driver.poll() is None and evaluated(journal) < 2:
            time.sleep(0.05)
        run_folder(storage, "hunt").claim()
        time.sleep(2)  # what was being put at that moment
        before = listed(client, f"taken-{workers}")
        said = driver.communicate(timeout=120)[1]
    finally:
        driver.kill()
    assert f"error: {storage.path}/hunt: another driver has taken it over   (log: " in said
    assert driver.returncode == 1
    assert listed(client, f"taken-{workers}") == before
    assert '"failed"' not in journal.read_text()


def listed(client, bucket: str) -> dict[str, str]:
    """All keys of a bucket, with the digests that S3 has of them."""
    return {one["Key"]: one["ETag"] for one in client.list_objects_v2(Bucket=bucket)["Contents"]}
