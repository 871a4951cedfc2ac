"""Training on a pack: the same bits as on its source, and one download per machine into a cache of bounded size."""

import multiprocessing
from pathlib import Path

import boto3
import pytest
import torch
from rich.console import Console

from gan_core import data
from gan_core.data.packed import JOINED
from gan_core.experiment import Data
from gan_core.settings import SettingsError
from infra.bounded_folder import release_all
from infra.stores.local import LocalStore
from infra.stores.protocol import UnreachableError, silent
from pipelines.data import fetch
from pipelines.data.fetch import local_data, worker_data
from pipelines.data.write import plan_pack, write_pack
from pipelines.evaluate.command import EvaluateOptions, evaluate_checkpoint
from pipelines.evaluate.reference import prepare_reference
from pipelines.evaluate.sample import sample
from pipelines.evaluate.targets import packs_of
from pipelines.settings._storage import Storage
from pipelines.settings._stores import open_store
from pipelines.train.play import cached_dataset, cached_reference, play
from tests.gan_core.data.written_files import class_folders, pictures
from tests.pipelines.small_runs import created, rows, small_train, timeless
from tests.servers import Cable, free_ports

QUIET = Console(quiet=True)


def forget() -> None:
    """Makes this process like one that has just started."""
    fetch._found.clear()
    cached_dataset.cache_clear()
    cached_reference.cache_clear()
    release_all()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "packs"
    forget()


def packed(source: Data, place: Path | str, storage: Storage | None = None, shard_bytes: int = 10**6) -> Data:
    plan = plan_pack(source, shard_bytes)
    write_pack(plan, open_store(place, storage or Storage()), str(place), silent)
    return Data(name="packed", path=str(place), image_size=source.image_size)


def of_folder(tmp_path: Path, name: str, count: int = 40) -> Data:
    return Data(name="folder", path=class_folders(tmp_path / name, a=pictures(count, 8, 8, 3)), image_size=8)


def entries(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.name != "locks")


def played(storage: Path, name: str, *assignments: str):
    """The rows of a run, without what depends on the clock, and its last checkpoint."""
    short = ("budget.rounds=6", "budget.log_every=2", "budget.eval_every=3", "budget.checkpoint_every=6")
    experiment = small_train(storage, "wgan_gp", name, "metrics.extractor=pixels", *short, *assignments)
    source = local_data(experiment.data, experiment.storage)
    content = prepare_reference(experiment.metrics, data.load(source), storage, QUIET).content
    folder = created(experiment)
    list(play(experiment, folder, content, target=None))
    return [timeless(row) for row in rows(folder.path)], folder.checkpoints()[-1]


@pytest.mark.parametrize("kind", ["digits", "folder"])
@pytest.mark.parametrize("place", ["local", "moto"])
def test_a_pack_trains_to_the_same_bits_as_its_source(request, tmp_path, monkeypatch, kind, place):
    """The weights and FIDs are the same for digits, which are floats, and for image files, from several shards."""
    source = Data(image_size=8) if kind == "digits" else of_folder(tmp_path, "set", 300)
    endpoint = []
    where: Path | str = tmp_path / "pack"
    if place == "moto":
        server = request.getfixturevalue("moto_server")
        server.be_asked(monkeypatch)
        boto3.session.Session().client("s3", endpoint_url=server.url).create_bucket(Bucket=f"train-{kind}")
        where, endpoint = f"s3://train-{kind}/a pack", [f"storage.endpoint_url={server.url}"]
    packed(source, where, Storage(endpoint_url=endpoint[0].partition("=")[2] if endpoint else None), 20_000)
    wanted = played(tmp_path, "source", *([] if kind == "digits" else ["data.name=folder", f"data.path={source.path}"]))
    found = played(tmp_path, "packed", "data.name=packed", f"data.path={where}", *endpoint)
    assert found[0] == wanted[0]
    assert [row["fid"] for row in found[0] if "fid" in row]
    name = "state.safetensors"
    assert (found[1] / name).read_bytes() == (wanted[1] / name).read_bytes()
    forget()
    # Commands that read the checkpoint find the store by the settings of the run.
    storage = packs_of(found[1], Storage(path=tmp_path))
    assert storage.endpoint_url == (endpoint[0].partition("=")[2] if endpoint else None)
    sample(found[1], tmp_path / "drawn.png", 4, packs=storage)
    settings = small_train(tmp_path, "wgan_gp", "other", "metrics.extractor=pixels").metrics
    result = evaluate_checkpoint(found[1], settings, EvaluateOptions(tmp_path, QUIET, packs=storage))
    assert result["fid"] == pytest.approx(found[0][-1]["fid"])


def test_several_shards_are_one_file_in_the_cache(tmp_path, cache):
    source = of_folder(tmp_path, "set")
    pack = packed(source, tmp_path / "pack", shard_bytes=2000)
    assert len(list((tmp_path / "pack").glob("images-*"))) == 4
    here = local_data(pack, Storage())
    (entry,) = entries(cache)
    assert here.path == cache / entry
    names = sorted(path.name for path in here.path.iterdir() if not path.name.startswith("."))
    assert names[0] == JOINED
    assert len(names) == 3  # the manifest and the labels
    loaded, wanted = data.load(here), data.load(source)
    assert torch.equal(loaded.images[:], wanted.images[:])
    assert str(here.path / JOINED) in Path("/proc/self/maps").read_text()


def test_a_pack_is_fetched_once(tmp_path, cache, moto_server, monkeypatch):
    moto_server.be_asked(monkeypatch)
    boto3.session.Session().client("s3", endpoint_url=moto_server.url).create_bucket(Bucket="once")
    cable = Cable(moto_server.url)
    storage = Storage(endpoint_url=cable.url)
    pack = packed(of_folder(tmp_path, "set", 400), "s3://once/pack", storage, 20_000)
    before = cable.carried
    local_data(pack, storage)
    assert cable.carried - before > 400 * 192
    forget()
    before = cable.carried
    local_data(pack, storage)
    assert cable.carried - before < 10_000  # the manifest: is it still the same pack?
    cable.close()


def test_a_store_that_is_away_is_told_to_a_person_and_is_no_fault_of_a_game(moto_server, monkeypatch):
    """A trial that failed by its settings is not resumed. A trial whose data was unavailable is."""
    moto_server.be_asked(monkeypatch)
    nobody = Storage(endpoint_url=f"http://127.0.0.1:{free_ports(1)[0]}")
    pack = Data(name="packed", path="s3://bucket/pack", image_size=8)
    with pytest.raises(SettingsError, match="nearest: storage.endpoint_url="):
        local_data(pack, nobody)
    with pytest.raises(UnreachableError, match="no answer from"):
        worker_data(pack, nobody)


def fetch_in_a_process(pack: Data, storage: Storage) -> None:
    here = local_data(pack, storage)
    assert len(data.load(here).images) == 1797


def test_processes_of_a_machine_share_one_download(tmp_path, cache, moto_server, monkeypatch):
    moto_server.be_asked(monkeypatch)
    boto3.session.Session().client("s3", endpoint_url=moto_server.url).create_bucket(Bucket="shared")
    cable = Cable(moto_server.url)
    storage = Storage(endpoint_url=cable.url)
    pack = packed(Data(image_size=16), "s3://shared/pack", storage, 400_000)
    before = cable.carried
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=fetch_in_a_process, args=(pack, storage)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    size = 1797 * 16 * 16 * 4
    assert size < cable.carried - before < 1.3 * size
    cable.close()


def test_what_was_fetched_stays_when_a_fetch_is_interrupted(tmp_path, cache, monkeypatch):
    """The fetch stops while shards are fetched, or while they are joined."""
    source = of_folder(tmp_path, "set")
    pack = packed(source, tmp_path / "pack", shard_bytes=2000)
    names = sorted(path.name for path in (tmp_path / "pack").glob("images-*"))
    hidden = (tmp_path / "pack" / names[2]).rename(tmp_path / "hidden")
    with pytest.raises(SettingsError, match=f"data.path={tmp_path}/pack: .*{names[2]}; nearest: ganfleet data verify"):
        local_data(pack, Storage())
    (entry,) = entries(cache)
    kept = {path.name for path in (cache / entry).glob("images-*")}
    assert kept >= {names[0], names[1]}
    hidden.rename(tmp_path / "pack" / names[2])

    calls = []

    class BrokenOffError(BaseException):
        pass

    real = fetch.np.load

    def load(file, mmap_mode=None):
        calls.append(file)
        if sum("images-" in str(one) for one in calls) == 3:
            raise BrokenOffError
        return real(file, mmap_mode=mmap_mode)

    monkeypatch.setattr(fetch.np, "load", load)
    with pytest.raises(BrokenOffError):
        local_data(pack, Storage())
    monkeypatch.setattr(fetch.np, "load", real)
    got = []
    get = LocalStore.get
    monkeypatch.setattr(LocalStore, "get", lambda self, key, *rest: (got.append(key), get(self, key, *rest))[1])
    here = local_data(pack, Storage())
    assert set(got) & set(names) == {names[2], names[3]}  # two were joined; these are looked at, and are whole
    assert torch.equal(data.load(here).images[:], data.load(source).images[:])


def test_the_cache_is_bounded(tmp_path, cache):
    """Packs of 80 kB in 0.2 MB: the least recently used pack is deleted, unless a process uses it."""
    sources = [packed(of_folder(tmp_path, name, 400), tmp_path / f"pack-{name}") for name in "abc"]
    storage = Storage(cache_gb=0.001)
    small = storage.model_copy(update={"cache_gb": 0.0002})
    kept = []
    for source in sources[:2]:
        kept.append(local_data(source, small).path.name)
        forget()
    third = local_data(sources[2], small).path.name
    assert entries(cache) == sorted([kept[1], third])
    local_data(sources[1], small)
    with pytest.raises(SettingsError) as error:
        local_data(sources[0], small)
    assert "storage.cache_gb=0.0002, but data.path=" in str(error.value)
    assert "packs of 0.000161 GB are in use; nearest: storage.cache_gb=0.01" in str(error.value)
    forget()
    local_data(sources[0], small)
    assert kept[0] in entries(cache)
    assert len(entries(cache)) == 2


def test_a_pack_larger_than_the_cache_is_told(tmp_path, cache):
    pack = packed(of_folder(tmp_path, "set", 400), tmp_path / "pack")
    with pytest.raises(SettingsError, match="takes 8.03e-05 GB; nearest: storage.cache_gb=0.01$"):
        local_data(pack, Storage().model_copy(update={"cache_gb": 0.00001}))
    assert entries(cache) == []


def test_a_damaged_entry_is_made_anew(tmp_path, cache):
    source = of_folder(tmp_path, "set")
    pack = packed(source, tmp_path / "pack", shard_bytes=2000)
    here = local_data(pack, Storage())
    forget()
    with (here.path / JOINED).open("r+b") as file:
        file.truncate(1000)
    assert torch.equal(data.load(local_data(pack, Storage())).images[:], data.load(source).images[:])


def test_a_pack_that_has_changed_is_fetched_anew(tmp_path, cache):
    """There is another pack at the same place. Each process reads the manifest."""
    first = local_data(packed(of_folder(tmp_path, "one"), tmp_path / "pack"), Storage())
    forget()
    (tmp_path / "pack" / "manifest.json").unlink()
    second = local_data(packed(of_folder(tmp_path, "two"), tmp_path / "pack"), Storage())
    assert first.path != second.path


def test_other_data_is_where_it_was():
    assert local_data(Data(), Storage()) == Data()
