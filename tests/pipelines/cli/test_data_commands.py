"""`ganfleet data`: packs made, pulled, listed and verified, in folders and in S3."""

import hashlib
import json
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest

from pipelines.data import transfer as packs
from tests.gan_core.data.written_files import class_folders, pictures
from tests.golden.forks import snapshot
from tests.pipelines.small_runs import ganfleet_here
from tests.servers import Cable, free_ports

IMAGES = pictures(12, 8, 8, 3)
SMALL = ("data.image_size=8", "--shard-mb", "0.001")
"""Five images a shard."""


class Said:
    """What a command line wrote, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def mistake(self) -> str:
        """The one line of an error that the user can put right."""
        assert self.code == 2, (self.code, self.out, self.err)
        (line,) = self.err.splitlines()
        assert line.startswith("error: ")
        assert "nearest: " in line
        return line


@pytest.fixture
def ganfleet(tmp_path, monkeypatch, capsys):
    """A command in this process, in an empty folder."""
    (tmp_path / "place").mkdir()
    monkeypatch.chdir(tmp_path / "place")
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path / "cache"))

    def run(*words: object) -> Said:
        done = ganfleet_here(monkeypatch, capsys, *words)
        return Said(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def source(tmp_path) -> Path:
    return class_folders(tmp_path / "set", a=IMAGES[:5], b=IMAGES[5:])


@pytest.fixture
def client(moto_server, monkeypatch):
    moto_server.be_asked(monkeypatch)
    return boto3.session.Session().client("s3", endpoint_url=moto_server.url)


@pytest.fixture
def bucket(client, tmp_path) -> str:
    name = f"b{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20]}"
    client.create_bucket(Bucket=name)
    return name


@pytest.fixture(params=["local", "moto"])
def dest(request, tmp_path) -> list[str]:
    """The destination, and the setting that reaches it."""
    if request.param == "local":
        return [str(tmp_path / "packs" / "one")]
    bucket, server = request.getfixturevalue("bucket"), request.getfixturevalue("moto_server")
    return [f"s3://{bucket}/packs/one", f"storage.endpoint_url={server.url}"]


def test_a_pack_goes_there_and_back(ganfleet, source, dest, tmp_path):
    packed = ganfleet("data", "pack", source, *dest, *SMALL)
    assert (packed.code, packed.err) == (0, "")
    assert packed.out.startswith(f"{dest[0]}: folder, 12 images of 8x8x3 (uint8), 2 classes (a, b), 3 shards, ")
    assert ganfleet("data", "ls", *dest).out == packed.out
    whole = ganfleet("data", "verify", *dest)
    assert (whole.code, whole.out) == (0, f"{dest[0]}: 4 files are whole\n")
    assert ganfleet("data", "pull", dest[0], "here", *dest[1:]).code == 0
    ganfleet("data", "pack", source, "again", *SMALL)
    assert snapshot(Path("here")) == snapshot(Path("again"))
    manifest = json.loads(Path("here/manifest.json").read_text())
    for file in [*manifest["shards"], manifest["labels"]]:
        content = Path("here", file["name"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["size"], file["sha256"])
    assert sorted(path.name for path in Path("here").iterdir()) == sorted(
        ["manifest.json", *(file["name"] for file in [*manifest["shards"], manifest["labels"]])]
    )


def test_packs_below_a_place_are_listed(ganfleet, source, dest):
    ganfleet("data", "pack", source, *dest, *SMALL)
    other = dest[0].removesuffix("one") + "two words"
    ganfleet("data", "pack", "digits", other, *dest[1:], "data.image_size=8")
    listed = ganfleet("data", "ls", dest[0].removesuffix("/one"), *dest[1:]).out.splitlines()
    assert [line.partition(",")[0] for line in listed] == [f"{dest[0]}: folder", f"{other}: digits"]


def test_packing_again_writes_nothing(ganfleet, source, dest):
    ganfleet("data", "pack", source, *dest, *SMALL)
    assert ganfleet("data", "pack", source, *dest, *SMALL).out.endswith("was there already\n")
    line = ganfleet("data", "pack", "digits", *dest, "data.image_size=8").mistake()
    assert f"{dest[0]} holds another pack; nearest: {dest[0]}-" in line
    assert ganfleet("data", "verify", *dest).code == 0


def deleted(dest: list[str], name: str, request) -> None:
    if dest[0].startswith("s3://"):
        bucket, _, prefix = dest[0].removeprefix("s3://").partition("/")
        request.getfixturevalue("client").delete_object(Bucket=bucket, Key=f"{prefix}/{name}")
    else:
        Path(dest[0], name).unlink()


def test_what_is_missing_is_packed_and_the_manifest_comes_last(ganfleet, source, dest, request, monkeypatch):
    """An incomplete pack has no manifest."""
    ganfleet("data", "pack", source, *dest, *SMALL)
    ganfleet("data", "pull", dest[0], "here", *dest[1:])
    names = [path.name for path in Path("here").glob("images-*")]
    for name in (names[0], "manifest.json"):
        deleted(dest, name, request)
    assert "is no pack: it has no manifest.json" in ganfleet("data", "pull", dest[0], "new", *dest[1:]).mistake()
    assert ganfleet("data", "pack", source, *dest, *SMALL).code == 0
    assert ganfleet("data", "verify", *dest).code == 0


def test_each_damage_is_named(ganfleet, source, dest, request):
    ganfleet("data", "pack", source, *dest, *SMALL)
    ganfleet("data", "pull", dest[0], "here", *dest[1:])
    first, second, third = sorted(path.name for path in Path("here").glob("images-*"))
    content = {name: Path("here", name).read_bytes() for name in (first, second)}
    damaged = {first: content[first][:-1], second: content[second][:-1] + b"?"}
    for name, new in damaged.items():
        if dest[0].startswith("s3://"):
            bucket, _, prefix = dest[0].removeprefix("s3://").partition("/")
            request.getfixturevalue("client").put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=new)
        else:
            Path(dest[0], name).write_bytes(new)
    deleted(dest, third, request)
    told = ganfleet("data", "verify", *dest)
    assert told.code == 1
    lines = told.out.splitlines()
    assert lines[0] == f"{first} has {len(content[first]) - 1} bytes, not {len(content[first])}"
    assert lines[1].startswith(f"{second} has sha256 ")
    assert lines[2] == f"{third} is missing"
    assert len(lines) == 3
    assert told.err.startswith("error: 3 of 4 files")
    line = ganfleet("data", "pull", dest[0], "new", *dest[1:]).mistake()
    assert f"nearest: ganfleet data verify {dest[0]}" in line
    assert not Path("new", "manifest.json").exists()


def test_the_advice_for_a_damaged_pack_makes_it_whole(ganfleet, source, client, bucket, moto_server):
    """Damage by a disk: the store still reports the old size, digest and date."""
    dest = [f"s3://{bucket}/pack", f"storage.endpoint_url={moto_server.url}"]
    ganfleet("data", "pack", source, *dest, *SMALL)
    (key, *_) = (one["Key"] for one in client.list_objects_v2(Bucket=bucket)["Contents"] if "images" in one["Key"])
    there = client.get_object(Bucket=bucket, Key=key)
    content = there["Body"].read()
    client.put_object(Bucket=bucket, Key=key, Body=content[:-1] + b"?", Metadata=there["Metadata"])
    told = ganfleet("data", "verify", *dest)
    assert told.code == 1
    advice = told.err.rstrip("\n").partition("nearest: ganfleet ")[2].replace("SOURCE", str(source))
    packed = ganfleet(*advice.split(), *dest[1:], *SMALL)
    assert (packed.code, "was there already" in packed.out) == (0, False)
    assert ganfleet("data", "verify", *dest).code == 0
    assert ganfleet(*advice.split(), *dest[1:], *SMALL).out.endswith("was there already\n")


def test_shards_that_are_whole_are_not_pulled_again(ganfleet, source, client, bucket, moto_server):
    dest = f"s3://{bucket}/pack"
    cable = Cable(moto_server.url)
    ganfleet("data", "pack", "digits", dest, "data.image_size=32", "--shard-mb", 1, "storage.endpoint_url=" + cable.url)
    before = cable.carried
    assert ganfleet("data", "pull", dest, "here", "storage.endpoint_url=" + cable.url).code == 0
    all_of_it = cable.carried - before
    shards = sorted(Path("here").glob("images-*"))
    assert len(shards) == 8
    shards[3].unlink()
    with shards[5].open("r+b") as file:
        file.write(b"damaged")
    (Path("here") / "manifest.json").unlink()
    before = cable.carried
    assert ganfleet("data", "pull", dest, "here", "storage.endpoint_url=" + cable.url).code == 0
    assert cable.carried - before < 0.4 * all_of_it
    assert ganfleet("data", "verify", "here").code == 0
    cable.close()


def test_another_pack_is_not_overwritten(ganfleet, source):
    ganfleet("data", "pack", source, "one", *SMALL)
    ganfleet("data", "pack", "digits", "two", "data.image_size=8")
    assert "holds another pack" in ganfleet("data", "pull", "one", "two").mistake()
    assert ganfleet("data", "verify", "two").code == 0


# A store's errors name the setting, in `data` and in `train`, before any cluster is started


@pytest.fixture(params=["data verify {}", "train wgan_gp name=x data.image_size=8 data.name=packed data.path={}"])
def asking(request, ganfleet, monkeypatch):
    def refuse(*_):
        raise AssertionError("a cluster was started")

    monkeypatch.setattr("pipelines.train.command.cluster", refuse)

    def ask(place: str, *words: str) -> str:
        line = ganfleet(*request.param.format(place).split(), *words).mistake()
        assert not Path("runs/x").exists()
        assert f"{'data.path=' if 'train' in request.param else ''}{place}" in line
        return line

    return ask


def test_a_missing_bucket_is_told(asking, client, moto_server):
    line = asking("s3://no-such-bucket-here/pack", "storage.endpoint_url=" + moto_server.url)
    assert "there is no bucket no-such-bucket-here; nearest: a bucket" in line


def test_a_missing_manifest_is_told(asking, bucket, moto_server):
    line = asking(f"s3://{bucket}/pack", "storage.endpoint_url=" + moto_server.url)
    assert "is no pack: it has no manifest.json; nearest: ganfleet data pack SOURCE" in line


class _NoS3(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def web_server(tmp_path):
    """A server of files that has no buckets."""
    (tmp_path / "pages").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_NoS3, directory=tmp_path / "pages"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("action", ["ls", "verify", "pull"])
def test_a_server_that_is_no_s3_is_told_with_what_to_change(ganfleet, client, web_server, action):
    words = ["data", action, "s3://bucket/digits", *(["here"] if action == "pull" else [])]
    line = ganfleet(*words, f"storage.endpoint_url={web_server}").mistake()
    assert "s3://bucket/digits: there is no " in line
    assert line.endswith("nearest: a bucket or folder that is there, or another storage.endpoint_url=")


def test_a_damaged_manifest_is_told_with_what_mends_it(ganfleet, source, client, bucket, moto_server):
    dest = [f"s3://{bucket}/pack", f"storage.endpoint_url={moto_server.url}"]
    ganfleet("data", "pack", source, *dest, *SMALL)
    client.put_object(Bucket=bucket, Key="pack/manifest.json", Body=b"?", Metadata={"sha256": "0" * 64})
    line = ganfleet("data", "verify", *dest).mistake()
    assert f"nearest: delete it and ganfleet data pack SOURCE {dest[0]}" in line


def test_a_wrong_secret_is_told(asking, swift_server, monkeypatch):
    swift_server.be_asked(monkeypatch)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    line = asking("s3://somebodys/pack", "storage.endpoint_url=" + swift_server.url)
    assert "access denied (403" in line
    assert "nearest: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE" in line


def test_that_nobody_answers_is_told(asking, client, monkeypatch):
    began = time.monotonic()
    line = asking("s3://bucket/pack", f"storage.endpoint_url=http://127.0.0.1:{free_ports(1)[0]}")
    assert "no answer from http://127.0.0.1" in line
    assert "nearest: storage.endpoint_url=" in line
    assert time.monotonic() - began < 60


def test_a_truncated_shard_is_told(ganfleet, source, client, bucket, moto_server, monkeypatch):
    where, endpoint = f"s3://{bucket}/pack", "storage.endpoint_url=" + moto_server.url
    ganfleet("data", "pack", source, where, endpoint, *SMALL)
    (shard, *_) = (one["Key"] for one in client.list_objects_v2(Bucket=bucket)["Contents"] if "images" in one["Key"])
    client.put_object(Bucket=bucket, Key=shard, Body=b"short", Metadata={"sha256": "0" * 64})
    words = ["name=x", "data.image_size=8", "data.batch_size=4", "data.name=packed", f"data.path={where}", endpoint]
    line = ganfleet("train", "wgan_gp", *words).mistake()
    assert f"data.path={where}: {where}/{shard.rpartition('/')[2]} is damaged" in line
    assert f"nearest: ganfleet data verify {where}" in line
    line = ganfleet("train", "wgan_gp", *words, "data.image_size=16").mistake()
    assert "data.image_size=16" in line
    assert "nearest: data.image_size=8" in line


def test_files_of_a_pack_are_moved_several_at_a_time():
    assert packs.AT_ONCE > 1
