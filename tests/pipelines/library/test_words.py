"""A call in Python asks for what the words of a command line ask for."""

import hashlib
import inspect
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import numpy as np
import pytest
import torch

import pipelines
from gan_core import checkpoint
from gan_core.experiment import Experiment
from gan_core.family import Family, family_class
from gan_core.loop import Game
from gan_core.settings import SettingsError, place_of
from pipelines import Search, train
from pipelines.launch import search_request, train_request
from pipelines.library._words import command_line, words_of, written
from pipelines.runs import run_folder
from pipelines.settings import Storage
from tests.gan_core.modern import Modern
from tests.pipelines.library.own import defined

WganGp = family_class("wgan_gp")


def trained(*given, **options):
    return train_request(command_line(given, **options)).experiment


def searched(*given, **options):
    return search_request(command_line(given, **options)).experiment


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        (("wgan_gp", "family.lr=2e-3", "family.n_critic=2"), {}),
        (("wgan_gp",), {"family.lr": 2e-3, "family.n_critic": 2}),
        ((WganGp, "family.lr=2e-3"), {"family.n_critic": np.int64(2)}),
        ((WganGp(lr=2e-3, n_critic=2),), {}),
        ((WganGp(lr=5e-1), "family.lr=0.002"), {"family.n_critic": torch.tensor(2)}),
        (("family.lr=2e-3",), {"family.name": "wgan_gp", "family.n_critic": 2}),
    ],
)
def test_a_family_and_its_settings_are_given_in_any_form(given, settings):
    asked = trained(*given, "name=x", settings=settings)
    assert asked == trained("wgan_gp", "family.lr=2e-3", "family.n_critic=2", "name=x")
    assert (asked.family.lr, asked.family.n_critic) == (2e-3, 2)


def test_what_cannot_be_meant_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="^Family is the base of families; nearest: a subclass"):
        command_line((Family,))
    for word in ("data=digits", "data.name=digits"):
        with pytest.raises(SettingsError, match=f"^{word} and data=... are both given; nearest: one of them$"):
            command_line(("wgan", word, f"storage.path={tmp_path}"), data=np.zeros((4, 8, 8)))


def test_pythons_values_are_those_that_one_types(tmp_path):
    settings = {
        "compute.min_workers": None,
        "data.flip": True,
        "storage.path": tmp_path,
        "family.lr": 1e-05,
        "search.points": [{"lr": 1e-05, "clip": 0.01}],
        "space.clip": "uniform(0.01,0.1)",
    }
    words = words_of(settings)
    assert words[:4] == ["compute.min_workers=null", "data.flip=true", f"storage.path={tmp_path}", "family.lr=1e-05"]
    (family,) = searched("wgan", *words[3:4]).families
    assert family.lr == 1e-5
    found = searched(["wgan", WganGp], settings={"search.points": [{"family": "wgan", "lr": 1e-05}]})
    assert found.points() == searched("wgan", "wgan_gp", "search.points=[{family: wgan, lr: 0.00001}]").points()
    assert [one.name for one in found.families] == ["wgan", "wgan_gp"]


def test_the_fields_of_a_family_are_fixed_in_a_search_for_that_family_alone():
    found = searched([WganGp(lr=1e-3), family_class("wgan")(lr=1e-4)], "search.trials=8")
    assert [family.lr for family in found.families] == [1e-3, 1e-4]
    assert {name: "lr" in space for name, space in found.spaces().items()} == {"wgan": False, "wgan_gp": False}
    assert "lr" in searched([WganGp(lr=1e-3), "wgan"]).spaces()["wgan"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: pipelines.train("wgan_pg"), "unknown family 'wgan_pg'; nearest: wgan_gp"),
        (lambda: pipelines.train("wgan", settings={"family.clipp": 0.1}), "nearest: family.clip"),
        (lambda: pipelines.train(Modern, "family.lr=7"), "family.lr=7 is out of range, at most 1.0"),
        (lambda: pipelines.train(3), "3 is no family; nearest: a name, a class"),
        (
            lambda: pipelines.search("wgan", "search.trails=4"),
            "unknown setting 'search.trails'; nearest: search.trials",
        ),
        (lambda: pipelines.train(resume="no-such"), "no run named 'no-such'"),
        (lambda: pipelines.load("no-such"), "no run named 'no-such'"),
        (lambda: pipelines.evaluate("no-such"), "no run named 'no-such'"),
        (lambda: pipelines.load("x", "budget.rounds=3"), "unknown setting 'budget.rounds=3'"),
    ],
)
def test_a_mistake_is_a_settings_error_in_one_line(tmp_path, monkeypatch, call, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=said) as error:
        call()
    assert "\n" not in str(error.value)
    assert not any(tmp_path.iterdir()), "it was found before anything was written"


def test_the_calls_are_functions_to_readers_and_packages_to_imports():
    assert list(inspect.signature(pipelines.train).parameters)[:5] == [
        "family",
        "words",
        "settings",
        "data",
        "callbacks",
    ]
    for verb in (pipelines.train, pipelines.search, pipelines.evaluate):
        assert verb.__doc__ == getattr(pipelines.library, verb.__name__.rpartition(".")[2]).__doc__
        assert pickle.loads(cloudpickle.dumps(verb)) is verb
    import pipelines.train.command as command

    assert pipelines.train.command is command


def test_importing_them_loads_neither_torch_nor_ray_nor_pandas():
    program = (
        "import sys\nfrom pipelines import train, search, evaluate, load\n"
        "import inspect; inspect.signature(train)\nfrom pipelines import Run, Search\n"
        "print({'torch', 'ray', 'pandas', 'mlflow', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_what_was_asked_for_is_logged_as_one_would_type_it():
    line = command_line(["wgan", "family.lr=1e-3"], {"budget.rounds": 7}, config="demo")
    assert written("search", line) == "ganfleet search wgan --config demo family.lr=1e-3 budget.rounds=7"


def test_a_class_and_an_object_that_no_module_has_reach_another_process(tmp_path):
    """By value, with every check of the settings."""
    Tiny, Nets = defined()
    asked = trained(Tiny(rate=2e-3), "name=x", settings={"family.net": Nets(2)})
    assert asked.family.name == place_of(Tiny)
    assert asked.family.net == trained(Tiny, settings={"family.net": asked.family.net}).family.net
    (tmp_path / "asked").write_bytes(cloudpickle.dumps(asked))
    program = f"""
import pickle
asked = pickle.load(open({str(tmp_path / "asked")!r}, "rb"))
from gan_core.loop import Game
print(len(Game(asked, (1, 8, 8)).generator))
again = type(asked).from_yaml(asked.to_yaml())
print(again == asked, type(again.family) is type(asked.family))
asked.override("family.rate=9")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert done.stdout.split() == ["5", "True", "True"], done.stderr
    assert "family.rate=9 is out of range, at most 1.0" in done.stderr


def test_two_objects_of_a_class_have_two_names_and_one_has_one():
    Tiny, Nets = defined()
    one, other = Nets(1), Nets(1)
    assert place_of(one) == place_of(one) != place_of(other)
    assert place_of(Modern) == "tests.gan_core.modern:Modern"
    names = {trained(Tiny).family.name, trained(defined()[0]).family.name}
    assert len(names) == 2, "a cell that ran again defines another class"


def test_the_newest_class_of_a_notebook_counts(monkeypatch):
    first, second = defined()[0], defined()[0]
    for family in (first, second):
        family.__module__, family.__qualname__, family.name = "__main__", "Cell", "__main__:Cell"
        monkeypatch.setattr(sys.modules["__main__"], "Cell", family, raising=False)
        assert type(trained(family).family) is family
        assert type(trained("__main__:Cell").family) is family
    assert type(trained(first).family) is first, "who has the older class may still play it"
    monkeypatch.delattr(sys.modules["__main__"], "Cell")
    with pytest.raises(
        SettingsError, match=r"family=__main__:Cell: this program defines no 'Cell'; nearest: define it"
    ):
        trained("__main__:Cell")


def test_a_checkpoint_has_the_digest_of_a_cells_source(tmp_path, monkeypatch, caplog):
    """As ipykernel does, which keeps the text of each cell in linecache."""
    import linecache

    def cell(text: str):
        name = f"/tmp/ipykernel_1/{hashlib.md5(text.encode()).hexdigest()}.py"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        space = {"__name__": "__main__"}
        exec(compile(text, name, "exec"), space)
        monkeypatch.setattr(sys.modules["__main__"], "Cell", space["Cell"], raising=False)
        return space["Cell"]

    text = "from tests.gan_core.modern import Modern\nclass Cell(Modern):\n    def steps(self):\n        return 1\n"
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    words = ("family.width=4", "family.latent=8", "data.image_size=8", "data.batch_size=8")

    def game(family):
        return Game(Experiment.load({"family": family()}).override(*words), (1, 8, 8))

    folder = checkpoint.save(game(cell(text)), tmp_path / "here")
    about = json.loads((folder / "checkpoint.json").read_text())
    assert about["source"] == hashlib.sha256(text.encode()).hexdigest()
    checkpoint.load(game(cell(text)), folder)
    assert caplog.messages == []
    checkpoint.load(game(cell(text + "# another line\n")), folder)
    assert caplog.messages == [f"{folder} was trained by other code of __main__:Cell"]
    monkeypatch.setattr(linecache, "cache", {})
    monkeypatch.setattr(linecache, "getlines", lambda *_: [])
    assert (
        json.loads((checkpoint.save(game(cell(text)), folder) / "checkpoint.json").read_text())["source"] == "unknown"
    )


@pytest.mark.full
def test_type_checkers_know_the_calls(tmp_path):
    """Though a package of the same name is there."""
    text = """
from pipelines import evaluate, load, search, train
from pipelines.train.play import play
reveal_type(train("wgan_gp", "family.lr=3e-4"))
reveal_type(search(["wgan"]).resume())
reveal_type(evaluate(load("first")))
train(callback=[])
"""
    (tmp_path / "program.py").write_text(text)
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "mypy", str(tmp_path / "program.py")]
    said = subprocess.run(command, cwd=root, capture_output=True, text=True).stdout
    found = re.findall(r'(?:Revealed type is "|error: )([^"\n]*)', said)
    assert [one.rpartition(".")[2] for one in found] == [
        "Run",
        "Search",
        "dict[str, Any]",
        "Unexpected keyword argument ",
    ], said


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([SimpleNamespace(on_lgo=print)], "callbacks: SimpleNamespace has no method that is called; nearest: on_log"),
        (
            [object()],
            "callbacks: object has no method that is called; nearest: an object with on_log, on_evaluation or",
        ),
        (3, "callbacks=3 is no list"),
    ],
)
def test_callbacks_that_nothing_calls_are_refused(callbacks, message):
    with pytest.raises(SettingsError, match=message):
        train("wgan_gp", callbacks=callbacks)


def test_a_picture_that_there_is_not_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(SettingsError, match="unknown plot 'importnace'; nearest: importance"):
        Search(run_folder(Storage(path=tmp_path), "none")).plot("importnace")
