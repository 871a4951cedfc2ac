"""Files that are written to S3, and the errors for places that cannot be written to."""

import json
import math
import re

import boto3
import pytest
import safetensors.torch
from PIL import Image

from gan_core.settings import SettingsError
from pipelines.cli.commands._outputs import exported, json_text
from pipelines.settings._storage import Storage
from tests.pipelines.small_runs import ganfleet_here


def test_what_is_found_is_json_for_every_reader():
    found = {"fid": math.nan, "kid": -math.inf, "parts": [1.5, (math.inf, 3)], "warnings": ["nan"], "none": None}

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is no JSON")

    read = json.loads(json_text(found), parse_constant=refuse)
    assert read == {"fid": "nan", "kid": "-inf", "parts": [1.5, ["inf", 3]], "warnings": ["nan"], "none": None}


@pytest.fixture
def bucket(moto_server, monkeypatch):
    """A client of the bucket, and the setting that names the store."""
    moto_server.be_asked(monkeypatch)
    client = boto3.session.Session().client("s3", endpoint_url=moto_server.url)
    client.create_bucket(Bucket="exports")
    return client, f"storage.endpoint_url={moto_server.url}"


def test_what_is_found_statistics_and_pictures_go_to_s3(bucket, played, tmp_path, monkeypatch, capsys):
    client, endpoint = bucket
    monkeypatch.chdir(tmp_path)
    newest = played.folder.checkpoints()[-1]
    words = ("--json", "s3://exports/a b/found.json", "--save-stats", "s3://exports/a b/real.npz", endpoint)
    done = ganfleet_here(monkeypatch, capsys, "evaluate", newest, *words)
    assert done.returncode == 0, done.stderr
    found = json.loads(client.get_object(Bucket="exports", Key="a b/found.json")["Body"].read())
    assert f"fid  {found['fid']:.4f}".split() == done.stdout.splitlines()[0].split()
    assert client.head_object(Bucket="exports", Key="a b/real.npz")["ContentLength"] > 1000

    done = ganfleet_here(monkeypatch, capsys, "sample", newest, "--out", "s3://exports/drawn.PNG", endpoint)
    assert (done.returncode, done.stdout) == (0, "s3://exports/drawn.PNG\n"), done.stderr
    assert Image.open(client.get_object(Bucket="exports", Key="drawn.PNG")["Body"]).width > 8
    assert list(tmp_path.glob("s3*")) == []


def test_a_generator_and_its_card_go_to_s3_and_the_licence_there_stays(bucket, played, tmp_path, monkeypatch, capsys):
    client, endpoint = bucket
    monkeypatch.chdir(tmp_path)
    words = (
        "export",
        played.folder.checkpoints()[-1],
        "--to",
        "safetensors",
        "--out",
        "s3://exports/my gan/",
        endpoint,
    )
    done = ganfleet_here(monkeypatch, capsys, *words)
    assert done.stdout.split("\n") == ["s3://exports/my gan/generator.safetensors", "s3://exports/my gan/README.md", ""]

    def put_again(card: bytes) -> bytes:
        client.put_object(Bucket="exports", Key="my gan/README.md", Body=card)
        ganfleet_here(monkeypatch, capsys, *words)
        return client.get_object(Bucket="exports", Key="my gan/README.md")["Body"].read()

    card = client.get_object(Bucket="exports", Key="my gan/README.md")["Body"].read()
    assert b"license: mit\n" in put_again(re.sub(rb"license: .*", b"license: mit", card))
    assert put_again(b"notes") == b"notes"
    weights = client.get_object(Bucket="exports", Key="my gan/generator.safetensors")["Body"].read()
    assert safetensors.torch.load(weights)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("s3://nowhere/x.json", "no bucket"),
        ("s3://exports/", "names no file; nearest: --json s3://exports/found"),
        ("s3://exports", "names no file; nearest: --json s3://exports/found"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_done(bucket, moto_server, place, told):
    begun = False
    with pytest.raises(SettingsError) as refused, exported("--json", place, Storage(endpoint_url=moto_server.url)):
        begun = True
    assert told in str(refused.value)
    assert not begun


def test_nothing_is_put_if_it_was_not_written(bucket, moto_server):
    def break_off() -> None:
        with exported("--out", "s3://exports/x", Storage(endpoint_url=moto_server.url)) as file:
            file.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert "Contents" not in bucket[0].list_objects_v2(Bucket="exports", Prefix="x")
