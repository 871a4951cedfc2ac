"""One contract of all stores: a folder, moto's server, OpenStack Swift."""

import errno
import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from infra.stores import open_store as opened
from infra.stores.protocol import (
    DamagedError,
    NotThereError,
    RefusedError,
    Store,
    StoreError,
    StoreOptions,
    UnreachableError,
)
from tests.servers import Cable, Server, free_ports

MB = 2**20
PIECE = 5 * MB
"""The least that S3 takes."""

UNUSUAL = "a folder/it's 100%41 + ä☃?#&=.bin"


@dataclass(frozen=True)
class Place:
    """Where a store of the test's own is."""

    kind: str
    url: str
    options: StoreOptions
    server: Server | None = None

    @property
    def store(self) -> Store:
        return opened(self.url, self.options)

    @property
    def client(self):
        return boto3.session.Session().client("s3", endpoint_url=self.server.url)

    @property
    def bucket(self) -> str:
        return self.url.removeprefix("s3://").partition("/")[0]

    def through(self, cable: Cable, attempts: int = 5) -> Store:
        return opened(self.url, replace(self.options, endpoint_url=cable.url, attempts=attempts, threads=1))

    def unfinished(self) -> list[str]:
        """Multipart uploads under way."""
        return [one["Key"] for one in self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())]


def place_of(kind: str, request, tmp_path, monkeypatch) -> Place:
    options = StoreOptions(piece=PIECE, threads=4)
    if kind == "local":
        (tmp_path / "store").mkdir()
        return Place(kind, str(tmp_path / "store"), options)
    server: Server = request.getfixturevalue(f"{kind}_server")
    server.be_asked(monkeypatch)
    bucket = f"b{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20]}"
    place = Place(kind, f"s3://{bucket}/some prefix", replace(options, endpoint_url=server.url), server)
    place.client.create_bucket(Bucket=bucket)
    return place


@pytest.fixture(params=["local", "moto", "swift"])
def place(request, tmp_path, monkeypatch) -> Place:
    return place_of(request.param, request, tmp_path, monkeypatch)


@pytest.fixture(params=["moto", "swift"])
def remote(request, tmp_path, monkeypatch) -> Place:
    return place_of(request.param, request, tmp_path, monkeypatch)


@pytest.fixture
def cables() -> Iterator[list[Cable]]:
    made: list[Cable] = []
    yield made
    for cable in made:
        cable.close()


def written(path: Path, size: int, seed: int = 0) -> Path:
    """A file of random bytes, a block again and again in another order."""
    block = hashlib.shake_256(str(seed).encode()).digest(min(MB, size) or 1)
    with path.open("wb") as file:
        for index in range(0, size, MB):
            start = index // MB * 997 % len(block)
            file.write((block[start:] + block[:start])[: size - index])
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("size", [0, 1, PIECE, 2 * PIECE + 1])
def test_what_was_put_is_got(place, tmp_path, size):
    source, target = written(tmp_path / "source", size), tmp_path / "new folder" / "target"
    sent, got = [], []
    digest = place.store.put(source, "some/key", sent.append)
    assert digest == sha256(source)
    about = place.store.about("some/key")
    assert (about.size, about.sha256) == (size, digest)
    place.store.get("some/key", target, progress=got.append)
    assert target.read_bytes() == source.read_bytes()
    assert (sum(sent), sum(got)) == (size, size)
    assert left(target.parent) == {"target"}
    assert place.store.digest("some/key") == digest
    assert list(place.store.listed()) == [("some/key", size)]


def test_a_large_file_goes_in_pieces(place, tmp_path):
    """200 MB where it is a real object store; 12 elsewhere."""
    size = 200 * MB + 7 if place.kind == "swift" else 12 * MB
    source = written(tmp_path / "source", size)
    digest = place.store.put(source, "large")
    assert place.store.about("large").sha256 == digest == sha256(source)
    if place.server:
        assert place.client.head_object(Bucket=place.bucket, Key="some prefix/large")["ETag"].count("-") == 1
        assert place.unfinished() == []
    place.store.get("large", tmp_path / "target")
    assert sha256(tmp_path / "target") == digest


@pytest.mark.parametrize("threads", [1, 4])
def test_an_object_of_many_pieces_is_read(remote, tmp_path, cables, threads):
    """More than s3transfer keeps in memory at once; and again after a cut."""
    digest = remote.store.put(written(tmp_path / "source", 3 * MB), "key")
    cables.append(Cable(remote.server.url, cuts=(2 * MB,)))
    for url in (remote.server.url, cables[0].url):
        store = opened(remote.url, StoreOptions(endpoint_url=url, piece=2**16, threads=threads))
        got = []
        assert store.digest("key", got.append) == digest
        assert sum(got) == 3 * MB
    store.get("key", tmp_path / "target")
    assert sha256(tmp_path / "target") == digest


def test_a_few_bytes(place):
    place.store.write("a/b.json", b"{}")
    place.store.write("a/b.json", b"{ }")
    assert place.store.read("a/b.json") == b"{ }"
    place.store.write("empty", b"")
    assert place.store.read("empty") == b""
    assert place.store.about("a/b.json").sha256 == hashlib.sha256(b"{ }").hexdigest()


def test_a_key_is_made_once(place):
    assert place.store.create("runs/x/experiment.yaml", b"first")
    assert not place.store.create("runs/x/experiment.yaml", b"second")
    assert place.store.read("runs/x/experiment.yaml") == b"first"


def test_a_key_whose_answer_was_lost_is_made(remote, cables):
    """The request is sent again, and by then the key is there."""
    cables.append(Cable(remote.server.url))
    through = remote.through(cables[0])
    assert through.create("warm", b"")
    cables[0].cut_next()
    assert through.create("key", b"ours")
    assert not through.create("key", b"ours")


def test_unusual_keys(place, tmp_path):
    source = written(tmp_path / "source", 1000)
    place.store.put(source, UNUSUAL)
    place.store.get(UNUSUAL, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    assert [key for key, _ in place.store.listed("a f")] == [UNUSUAL]


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../up", "a/../../up", "a//b", "./a", "a/"])
def test_a_key_is_a_relative_path(place, key):
    with pytest.raises(StoreError, match="relative path"):
        place.store.write(key, b"x")
    with pytest.raises(StoreError, match="relative path"):
        place.store.about(key)


def test_more_keys_than_an_answer_has(place):
    store = place.store
    wanted = sorted(f"many/{index:04d}" for index in range(1005))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.write(key, b"1"), [*wanted, "other/0"]))
    assert [key for key, size in store.listed("many/")] == wanted
    assert len(list(store.listed())) == 1006


def test_the_folders_at_the_top(place):
    for key in ("b/1", "b/2", "a x/deep/er", UNUSUAL, "ä/1", "file"):
        place.store.write(key, b"1")
    assert list(place.store.folders()) == ["a folder", "a x", "b", "ä"]


def test_a_store_knows_when_something_was_put(place):
    before = time.time()
    place.store.write("key", b"1")
    assert before - 2 < place.store.about("key").modified < time.time() + 2  # S3 says whole seconds


def test_what_is_deleted_is_gone(place):
    place.store.write("key", b"1")
    place.store.delete("key")
    place.store.delete("key")
    assert list(place.store.listed()) == []
    with pytest.raises(NotThereError, match="key"):
        place.store.about("key")


def test_a_missing_key(place, tmp_path):
    for ask in (place.store.read, place.store.about, place.store.digest):
        with pytest.raises(NotThereError, match="no.*absent"):
            ask("absent")
    with pytest.raises(NotThereError, match="no.*absent"):
        place.store.get("absent", tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_missing_bucket(place, tmp_path):
    absent = opened(place.url.replace("s3://b", "s3://c").replace("/store", "/stare"), place.options)
    with pytest.raises(NotThereError, match="no bucket c|no f.*stare"):
        absent.read("key")
    with pytest.raises(NotThereError, match="no bucket c|no folder .*stare"):
        list(absent.listed())


def altered(place: Place, key: str, content: bytes) -> None:
    """Other bytes under a key, with the digest that was kept."""
    if place.kind == "local":
        with (Path(place.url) / key).open("r+b") as file:
            file.truncate(0)
            file.write(content)
        return
    of = {"Bucket": place.bucket, "Key": f"some prefix/{key}"}
    kept = place.client.head_object(**of)["Metadata"]
    place.client.put_object(**of, Body=content, Metadata=kept)


@pytest.mark.parametrize("known", [True, False], ids=["a known digest", "the kept digest"])
@pytest.mark.parametrize("how", ["truncated", "altered"])
def test_other_bytes_are_told(place, tmp_path, how, known):
    source = written(tmp_path / "source", 3000)
    digest = place.store.put(source, "key")
    content = source.read_bytes()
    altered(place, "key", content[:-1] if how == "truncated" else content[:-1] + b"!")
    folder = tmp_path / "folder"
    with pytest.raises(DamagedError, match=f"key is damaged: its sha256 is .*, not {digest[:16]}"):
        place.store.get("key", folder / "target", digest if known else None)
    assert left(folder) == set()
    with pytest.raises(DamagedError, match="key is damaged"):
        place.store.read("key")
    assert place.store.digest("key") != digest


def test_what_is_there_is_not_fetched_again(place, tmp_path):
    source = written(tmp_path / "source", 3000)
    place.store.put(source, "key")
    place.store.get("key", tmp_path / "target")
    before = (tmp_path / "target").stat().st_mtime_ns
    seen = []
    place.store.get("key", tmp_path / "target", progress=seen.append)
    assert (tmp_path / "target").stat().st_mtime_ns == before
    assert seen == [3000]
    (tmp_path / "target").write_bytes(b"other")
    place.store.get("key", tmp_path / "target")
    assert sha256(tmp_path / "target") == sha256(source)


def test_of_two_writers_one_wins(place, tmp_path):
    """Whole, with its own digest; files of several pieces."""
    sources = [written(tmp_path / str(seed), 2 * PIECE, seed) for seed in range(2)]
    threads = [threading.Thread(target=place.store.put, args=(source, "key")) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    place.store.get("key", tmp_path / "target")
    assert sha256(tmp_path / "target") in map(sha256, sources)
    assert place.store.about("key").sha256 == sha256(tmp_path / "target")


def test_of_two_readers_into_one_file_one_brings_it(remote, tmp_path, cables):
    source = written(tmp_path / "source", 3 * PIECE)
    digest = remote.store.put(source, "key")
    cables.append(Cable(remote.server.url))
    stores = [remote.through(cables[0]) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda store: store.get("key", tmp_path / "folder" / "target"), stores))
    assert sha256(tmp_path / "folder" / "target") == digest
    assert left(tmp_path / "folder") == {"target"}
    assert cables[0].carried < 3.5 * PIECE


# The network


def test_a_download_that_is_cut_comes_to_its_end(remote, tmp_path, cables):
    """Three cuts, in the middle of pieces; only the pieces that were cut are asked for again."""
    source = written(tmp_path / "source", 12 * MB)
    digest = remote.store.put(source, "key")
    cables.append(Cable(remote.server.url, cuts=(2 * MB, 7 * MB, 14 * MB)))
    got = []
    remote.through(cables[0]).get("key", tmp_path / "folder" / "target", progress=got.append)
    assert sha256(tmp_path / "folder" / "target") == digest
    assert left(tmp_path / "folder") == {"target"}
    assert sum(got) == 12 * MB
    assert cables[0].carried < 12 * MB + 3 * PIECE


def test_a_small_object_whose_answer_breaks_off_is_read_again(remote, cables):
    content = bytes(MB)
    remote.store.write("key", content)
    cables.append(Cable(remote.server.url, cuts=(MB // 2,)))
    assert remote.through(cables[0]).read("key") == content
    cables.append(Cable(remote.server.url, cuts=(MB // 2,), mended=False))
    with pytest.raises(UnreachableError, match="key: no answer from http://127"):
        remote.through(cables[1], attempts=2).read("key")


def test_a_download_that_failed_is_begun_again(remote, tmp_path, cables):
    source = written(tmp_path / "source", 4 * PIECE)
    remote.store.put(source, "key")
    folder = tmp_path / "folder"
    cables += [Cable(remote.server.url, cuts=(int(2.5 * PIECE),), mended=False), Cable(remote.server.url)]
    with pytest.raises(UnreachableError, match="key: no answer from http://127"):
        remote.through(cables[0], attempts=1).get("key", folder / "target")
    assert left(folder) == set()
    remote.through(cables[1]).get("key", folder / "target")
    assert sha256(folder / "target") == sha256(source)
    assert left(folder) == {"target"}


def killed_while_it_downloads(url: str, options: StoreOptions, target: Path) -> None:
    """Dies after its first megabyte."""
    got = []

    def count(size):
        got.append(size)
        if sum(got) > MB:
            os.kill(os.getpid(), signal.SIGKILL)

    opened(url, options).get("key", target, progress=count)


def test_a_killed_download_leaves_no_file_under_the_name(remote, tmp_path, spawned):
    """What it leaves is hidden, and the next download, of other bytes too, takes its place."""
    remote.store.put(written(tmp_path / "old", 3 * PIECE, 1), "key")
    folder = tmp_path / "folder"
    arguments = [(remote.url, remote.options, folder / "target")]
    assert spawned(killed_while_it_downloads, arguments) == [-signal.SIGKILL]
    assert left(folder) == {".target.part"}
    digest = remote.store.put(written(tmp_path / "new", 2 * PIECE, 2), "key")
    remote.store.get("key", folder / "target")
    assert sha256(folder / "target") == digest
    assert left(folder) == {"target"}


def test_an_object_that_is_replaced_while_it_is_read_is_told(remote, tmp_path):
    sources = [written(tmp_path / str(seed), 3 * PIECE, seed) for seed in range(2)]
    remote.store.put(sources[0], "key")
    replaced = []

    def replace_once(_):
        if not replaced:
            replaced.append(1)
            remote.store.put(sources[1], "key")

    store = opened(remote.url, replace(remote.options, threads=1))
    with pytest.raises(StoreError, match="key was replaced while it was read; once more"):
        store.get("key", tmp_path / "folder" / "target", progress=replace_once)
    assert left(tmp_path / "folder") == set()


def test_an_upload_that_is_cut_comes_to_its_end(remote, tmp_path, cables):
    """Two answers are lost: to a piece, and to the last request, which makes one object of all pieces."""
    source = written(tmp_path / "source", 4 * PIECE)
    cables.append(Cable(remote.server.url))
    store = remote.through(cables[0])
    lost = []

    def lose(event_name: str, **_: object) -> None:
        if event_name not in lost:
            lost.append(event_name)
            cables[0].cut_next()

    for request in ("UploadPart", "CompleteMultipartUpload"):
        store._client.meta.events.register(f"before-send.s3.{request}", lose)
    sent = []
    store.put(source, "key", sent.append)
    assert len(lost) == 2
    assert sum(sent) == 4 * PIECE
    assert remote.store.digest("key") == sha256(source)
    assert remote.unfinished() == []


@pytest.mark.parametrize("same", [True, False], ids=["this file", "another file"])
def test_an_upload_that_a_server_does_not_know_any_more_may_be_complete(remote, tmp_path, monkeypatch, same):
    """A server may answer so when it is asked again because its first answer was lost."""
    source = written(tmp_path / "source", 2 * PIECE)
    store = remote.store
    complete = store._client.complete_multipart_upload

    def complete_twice(**request: object) -> None:
        if same:
            complete(**request)
        else:
            remote.store.write("key", b"another")
        answer = {"Error": {"Code": "NoSuchUpload"}, "ResponseMetadata": {"HTTPStatusCode": 404}}
        raise ClientError(answer, "CompleteMultipartUpload")

    monkeypatch.setattr(store._client, "complete_multipart_upload", complete_twice)
    if same:
        assert store.put(source, "key") == remote.store.digest("key")
    else:
        with pytest.raises(NotThereError, match="there is no .*key"):
            store.put(source, "key")
    assert remote.unfinished() == []


def test_a_file_that_grows_is_put_as_it_was(remote, tmp_path):
    """As the log of a run that still trains: the bytes that were hashed are sent."""
    for size in (1000, 2 * PIECE):
        source = written(tmp_path / "source", size)
        before = sha256(source)

        def grow(_, source=source):
            with source.open("ab") as file:
                file.write(b"more")

        assert remote.store.put(source, "key", grow) == before == remote.store.digest("key")
        assert remote.store.about("key").size == size


def test_an_upload_that_fails_leaves_nothing(remote, tmp_path, cables):
    source = written(tmp_path / "source", 3 * PIECE)
    cables.append(Cable(remote.server.url))

    with pytest.raises(UnreachableError, match="key: no answer from http://127"):
        remote.through(cables[0], attempts=1).put(source, "key", lambda _: cables[0].cut_next())
    cables[0].mend()
    assert remote.unfinished() == []
    assert list(remote.store.listed()) == []


def interrupted(url: str, options: StoreOptions, source: Path) -> None:
    """Ctrl-C after its first piece."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
    sent = []

    def count(size):
        sent.append(size)
        if len(sent) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        opened(url, options).put(source, "key", count)


def test_an_upload_that_is_interrupted_leaves_nothing(remote, tmp_path, spawned):
    source = written(tmp_path / "source", 4 * PIECE)
    assert spawned(interrupted, [(remote.url, remote.options, source)]) == [0]
    assert remote.unfinished() == []
    assert list(remote.store.listed()) == []


def killed_while_it_uploads(url: str, options: StoreOptions, source: Path) -> None:
    """Dies once it has sent its first piece."""
    sent = []

    def count(size):
        sent.append(size)
        if sum(sent) > PIECE:
            os.kill(os.getpid(), signal.SIGKILL)

    opened(url, replace(options, threads=1)).put(source, "key", count)


def test_an_upload_whose_process_died_is_begun_again(remote, tmp_path, spawned):
    """Its parts are left to the bucket's lifecycle rule, and no reader sees them."""
    source = written(tmp_path / "source", 4 * PIECE)
    assert spawned(killed_while_it_uploads, [(remote.url, remote.options, source)]) == [-signal.SIGKILL]
    assert remote.unfinished() == ["some prefix/key"]
    assert list(remote.store.listed()) == []
    sent = []
    remote.store.put(source, "key", sent.append)
    assert sum(sent) == source.stat().st_size
    assert remote.unfinished() == ["some prefix/key"]
    assert remote.store.digest("key") == sha256(source)


def test_an_asynchronous_upload_is_left_alone(remote, tmp_path):
    """Whoever is at it still, in this process or another, is not disturbed."""
    sources = [written(tmp_path / str(seed), 2 * PIECE, seed) for seed in range(2)]
    inside = []

    def put_other(_):
        if not inside:
            inside.append(1)
            remote.store.put(sources[1], "key")

    remote.store.put(sources[0], "key", put_other)
    assert remote.store.digest("key") == sha256(sources[0])
    assert remote.unfinished() == []


# What a person can put right


def test_a_wrong_secret_is_refused(request, tmp_path, monkeypatch):
    """By Swift: moto checks no signature."""
    place = place_of("swift", request, tmp_path, monkeypatch)
    place.store.write("key", b"1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    source = written(tmp_path / "source", 2 * PIECE)
    for ask in (
        lambda store: store.read("key"),
        lambda store: store.write("key", b"2"),
        lambda store: store.put(source, "key"),
        lambda store: list(store.listed()),
        lambda store: store.get("key", tmp_path / "target"),
        lambda store: store.delete("key"),
    ):
        with pytest.raises(RefusedError, match="access denied \\(403"):
            ask(place.store)


def test_without_credentials(remote, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(RefusedError, match="credentials"):
        remote.store.read("key")
    monkeypatch.setenv("AWS_PROFILE", "absent")
    with pytest.raises(RefusedError, match="absent"):
        remote.store.read("key")


def test_a_profile_names_endpoint_and_keys(remote, tmp_path, monkeypatch):
    remote.store.write("key", b"1")
    (tmp_path / "credentials").write_text(
        f"[mine]\naws_access_key_id={remote.server.key}\naws_secret_access_key={remote.server.secret}\n"
    )
    (tmp_path / "config").write_text(
        f"[profile mine]\nregion=us-east-1\nendpoint_url={remote.server.url}\ns3 =\n  addressing_style=path\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    assert opened(remote.url, StoreOptions()).read("key") == b"1"


def test_nobody_listens(remote, tmp_path):
    endpoint = f"http://127.0.0.1:{free_ports(1)[0]}"
    store = opened(remote.url, replace(remote.options, endpoint_url=endpoint, attempts=2))
    with pytest.raises(UnreachableError, match=f"no answer from {endpoint}"):
        store.read("key")


@pytest.mark.parametrize("url", ["s3://", "gs://bucket/x", "http://host/x"])
def test_a_url_that_means_nothing(url):
    with pytest.raises(StoreError, match="s3://bucket/prefix"):
        opened(url)


def test_a_folder_that_cannot_be_listed_is_no_empty_one(tmp_path, monkeypatch):
    """Rights are not taken away, because they do not bind root."""
    (tmp_path / "place" / "closed").mkdir(parents=True)
    written(tmp_path / "place" / "closed" / "key", 1)
    scandir = os.scandir

    def refusing(place):
        if Path(place).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(RefusedError, match=f"{tmp_path / 'place' / 'closed'}: Permission denied"):
        list(opened(str(tmp_path / "place"), StoreOptions()).listed())
