"""Runs on a real MLflow server with PostgreSQL. The client has no access to the S3 store of the artifacts."""

import os

import boto3
import pytest
from mlflow import MlflowClient

from infra.mlflow.tracker import MlflowTracker, close_run, opened_run, prepare
from tests.benchmarks.tracking_calls import Plan, Store, measured, sqlite_in
from tests.infra.mlflow.test_tracker import picture
from tests.tracking_servers import BUCKET, Guard


@pytest.fixture
def nameless(monkeypatch):
    """No credentials of any S3."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "MLFLOW_S3"))]:
        monkeypatch.delenv(name)


def test_artifacts_go_through_the_server_into_s3(tracking, tmp_path, nameless):
    experiment = prepare(tracking.url, "artifacts", None)
    run_id = opened_run(tracking.url, experiment, {"ganfleet.id": "a"}, "a", None, {"family.lr": 1e-4}, {}).info.run_id
    tracker = MlflowTracker(tracking.url, run_id)
    tracker.picture(7, picture())
    tracker.picture(7, picture())
    tracker.metrics(7, {"images_seen": 448, "fid": 12.5})
    (tmp_path / "best.yaml").write_text("family: wgan_gp")
    close_run(tracking.url, run_id, "FINISHED", {}, {"best.yaml": tmp_path / "best.yaml"})
    client = MlflowClient(tracking.url)
    names = [file.path for file in client.list_artifacts(run_id, "images")]
    assert len(names) == 2
    s3 = boto3.client(
        "s3",
        endpoint_url=tracking.store.url,
        aws_access_key_id=tracking.store.key,
        aws_secret_access_key=tracking.store.secret,
        region_name="us-east-1",
    )
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="runs/").get("Contents", [])
    keys = {one["Key"].partition("/artifacts/")[2] for one in listed if run_id in one["Key"]}
    assert keys == {"best.yaml", "samples/step-000007.png", "samples/latest.png", *names}
    again = MlflowTracker(tracking.url, run_id)
    again.picture(7, picture())
    assert (again.last_step, len(client.list_artifacts(run_id, "images"))) == (7, 2)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_four_processes_lose_nothing_and_ask_seldom(tracking, tmp_path, kind):
    """`measured` checks every value in the database."""
    stores = {"sqlite": sqlite_in(tmp_path), "postgresql": Store("postgresql", tracking.url, tracking.database)}
    found = measured("batched", stores[kind], Plan(runs=40, points=50, processes=4))
    assert found["calls_per_run"] <= 9


def test_the_password_of_mlflows_own_variables_lets_in(tracking, monkeypatch):
    guard = Guard(tracking.url, "mary", "right")
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "mary")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
        with pytest.raises(ValueError, match="MLFLOW_TRACKING_USERNAME=mary with this MLFLOW_TRACKING_PASSWORD: 401"):
            prepare(guard.url, "guarded", None)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "right")
        assert prepare(guard.url, "guarded", None) == prepare(tracking.url, "guarded", None)
        for name in ("USERNAME", "PASSWORD"):
            monkeypatch.delenv(f"MLFLOW_TRACKING_{name}")
        with pytest.raises(ValueError, match="without MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"):
            prepare(guard.url, "guarded", None)
    finally:
        guard.close()
