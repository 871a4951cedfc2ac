"""The command line in processes of its own: each mistake is one line, told before anything is loaded or made."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from PIL import Image

from gan_core.experiment import Data
from gan_core.family import family_names
from pipelines.launch._request import train_experiment
from pipelines.launch._search_request import search_experiment
from pipelines.runs._folder import RunFolder
from pipelines.settings._experiments import SearchExperiment, TrainExperiment
from tests.pipelines.tiny import created, environment, evaluated, ganfleet, rows, small_search, small_train, snapshot

# Each command line of standard input in a fork of its own; what the console script imports, and the modules named as
# arguments, is imported once. One line of JSON for each: exit code, what was said, and what was loaded in the end.
FORKS = """
import importlib, json, os, sys, traceback
from pathlib import Path
from pipelines.cli import main

for name in sys.argv[1:]:
    importlib.import_module(name)

def run(words):
    sys.argv = ["ganfleet", *words]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    loaded = sorted({"torch", "ray", "mlflow", "optuna", "numpy"} & set(sys.modules))
    Path("../loaded").write_text(json.dumps(loaded))
    os._exit(code)

for line in sys.stdin:
    place, words = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(place)
        for descriptor, name in enumerate(["out", "err"], start=1):
            os.dup2(os.open(f"../{name}", os.O_CREAT | os.O_WRONLY), descriptor)
        run(words)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    above = Path(place).parent
    out, err, loaded = ((above / name).read_text() for name in ["out", "err", "loaded"])
    print(json.dumps([code, out, err, json.loads(loaded)]))
"""


WINNER = ("seed=483", "family.lr=0.00012", "family.n_critic=3", "budget.rounds=50")


def furnished(place: Path) -> Path:
    """A working folder with two runs, two searches (`sure` has its best), a file of settings, and what is none."""
    storage = place / "runs"
    created(small_train(storage, "wgan_gp", "first", "budget.rounds=40"))
    created(small_train(storage, "wgan_gp", "by-images", "budget.images=4000"))
    created(small_search(storage, ["wgan", "wgan_gp"], "hunt", "search.trials=4", "search.confirm=3"))
    sure = created(small_search(storage, ["wgan_gp"], "sure"))
    sure.best.write_text(small_train(storage, "wgan_gp", "none", *WINNER).model_copy(update={"name": None}).to_yaml())
    sure.best.with_suffix(".json").write_text('{"trial": "0a1b", "checkpoint": "confirm/none"}')
    (place / "experiment.yaml").write_text("family: wgan\n")
    (place / "broken.yaml").write_text("family: [\n")
    (place / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    (place / "a-file").write_text("")
    return place


@pytest.fixture
def place(tmp_path) -> Path:
    return furnished(tmp_path / "place")


MISTAKES = {
    # families, verbs, options
    "train wgan-gp lr=fast": ["'wgan-gp'; nearest: wgan_gp", "'lr'; nearest: family.lr"],
    "train wgan gan": ["2; nearest: train wgan"],
    "train": ["ganfleet train wgan_gp"],
    "search": ["ganfleet search wgan wgan_gp"],
    "trian wgan": ["'trian'; nearest: train"],
    "serach wgan": ["'serach'; nearest: search"],
    "train wgan --dryrun": ["'--dryrun'; nearest: --dry-run"],
    "train --resum first": ["'--resum'; nearest: --resume"],
    "train --dry-run --config": ["--config"],
    "train wgan data=digitz": ["'digitz'; nearest: digits"],
    "evaluate": ["evaluate takes one or two targets", "nearest: evaluate RUN"],
    # settings
    "search wgan_gp family.clip=0.01": ["'family.clip' of wgan_gp (a setting of wgan); nearest: family.gp_lambda"],
    "train wgan family.lr=fast": ["family.lr='fast' is not a number; nearest: family.lr=5e-05"],
    "train wgan family.n_critic=0": ["family.n_critic=0", "nearest: family.n_critic=1"],
    "train wgan family.n_critic=1.5": ["family.n_critic='1.5' is not a whole number; nearest: family.n_critic=5"],
    "train wgan family.lr=nan": ["family.lr='nan'", "nearest: family.lr="],
    "train wgan data.name=digit": ["'digit'; nearest: digits"],
    "train wgan data.image_size=20": ["data.image_size=20", "nearest: data.image_size=16"],
    "train wgan budget.rounds=0": ["nearest: budget.rounds=1"],
    "train wgan buget.rounds=5": ["'buget.rounds'; nearest: budget.rounds"],
    "train wgan compute.precision=fp23": ["'fp23'; nearest: fp32"],
    "train wgan compute.workers=5000": ["nearest: compute.workers=4096"],
    "train wgan data.batch_size=15 compute.workers=2": ["nearest: data.batch_size=16"],
    "train wgan name=a/b": ["name='a/b'", "nearest: name=a-b"],
    "search wgan search.sampler=bayes": ["'bayes'", "known: tpe, random"],
    "search wgan search.max_concurrent=lots": ["'lots'", "nearest: search.max_concurrent=auto"],
    "search wgan metrics.weights=none.st": ["none.st is no file; nearest: metrics.weights=null"],
    # files
    "train --config experimant.yaml": ["experimant.yaml", "nearest: experiment.yaml"],
    "train --config wgan_gp-cifar": ["wgan_gp-cifar: no such file or preset; nearest: wgan_gp-cifar10"],
    "train --config nowhere/x.yaml": ["nowhere/x.yaml", "nearest: none"],
    "train wgan --config runs": ["--config runs"],
    "train --config broken.yaml": ["YAML"],
    "train --config binary.yaml": ["binary.yaml"],
    "train wgan name=new storage.path=a-file": ["storage.path=a-file"],
    "train wgan tracking.uri=127.0.0.1:5000": ["nearest: tracking.uri=http://127.0.0.1:5000"],
    "ui tracking.uri=postgresql://host/mlflow": ["nearest: tracking.uri=http://HOST:PORT"],
    # names
    "train wgan name=first": ["name=first", "nearest: name=first-2", "--resume first"],
    "search wgan name=hunt": ["name=hunt", "nearest: name=hunt-2", "--resume hunt"],
    "train --resume frist": ["'frist'", "nearest: first"],
    "search --resume hant": ["'hant'", "nearest: hunt"],
    "evaluate frist": ["'frist'", "nearest: first"],
    "sample frist": ["'frist'", "nearest: first"],
    "evaluate first": ["no checkpoint yet; nearest: --resume first"],
    "sample hunt --count 0": ["--count"],
    "sample hunt --count few": ["--count"],
    "evaluate first family.lr=1": ["family.lr", "nearest: metrics."],
    "ui storage.path=elsewhere": ["storage.path=elsewhere", "nearest: ganfleet train"],
    "ui --port 70000": ["--port"],
    # --resume
    "train --resume first wgan": ["leave out 'wgan'"],
    "train --resume first family.lr=1e-3": ["family.lr cannot change", "may change: budget.rounds"],
    "train --resume first budget.eval_every=5": ["budget.eval_every cannot change"],
    "train --resume first budget.rounds=39": ["budget.rounds=39", "nearest: budget.rounds=40"],
    "train --resume by-images budget.images=3999": ["budget.images=3999", "nearest: budget.images=4000"],
    "train --resume first budget.rounds=many": ["budget.rounds='many'"],
    "train --resume first compute.workers=3": ["nearest: data.batch_size", "compute.workers=3"],
    "train --resume hunt": ["nearest: ganfleet search --resume hunt"],
    "search --resume hunt search.trials=3": ["search.trials=3", "nearest: search.trials=4"],
    "search --resume hunt search.sampler=random": ["search.sampler cannot change", "may change: search.trials,"],
    "search --resume first": ["nearest: ganfleet train --resume first"],
    "search --resume hunt search.confirm=2": ["search.confirm=2 is less", "nearest: search.confirm=3"],
    "search --resume hunt search.confirm_seeds=2": [
        "search.confirm_seeds=2 is less",
        "nearest: search.confirm_seeds=3",
    ],
    # --from-search
    "train --from-search hant": ["no search named 'hant'", "nearest: hunt"],
    "train --from-search fist": ["no search named 'fist'", "nearest: hunt"],
    "train --from-search first": ["'first' is a training run; nearest: ganfleet train --resume first"],
    "train --from-search hunt": ["'hunt' has no best trial yet; nearest: ganfleet search --resume hunt"],
    "train --from-search sure wgan": ["leave out 'wgan': ganfleet train --from-search sure"],
    "train --from-search sure --config experiment.yaml": ["nearest: ganfleet train --from-search sure"],
    "train --from-search sure --resume first": ["nearest: ganfleet train --resume first"],
    "train --from-search sure family.clip=1": ["'family.clip' of wgan_gp"],
    "train --from-search sure name=first": ["name=first", "nearest: name=first-2"],
    "train --from-search sure storage.path=elsewhere": ["'sure'", "nearest: none, there is no search yet"],
    "train --from-serch sure": ["'--from-serch'; nearest: --from-search"],
    # what this machine has
    "train wgan name=big compute.workers=64": ["compute.workers=64", "nearest: compute.workers="],
    "search wgan name=big compute.workers=64": ["compute.workers=64", "nearest: compute.workers="],
    "search wgan name=big search.max_concurrent=64": ["search.max_concurrent=64", "nearest: search.max_concurrent="],
}


@dataclass(frozen=True)
class Answer:
    """What a command line brought."""

    code: int
    out: str
    err: str
    loaded: list[str]
    before: dict[str, bytes | None]
    """The working folder."""
    after: dict[str, bytes | None]

    def mistake(self) -> str:
        """The one line that says what is wrong; nothing was changed."""
        assert "Traceback" not in self.err, self.err
        (line,) = self.err.splitlines()
        assert line.startswith("error: ")
        assert (self.code, self.out) == (2, "")
        assert self.after == self.before
        return line


def forked(commands: list[tuple[Path, list[str]]], *imported: str) -> list[Answer]:
    """Runs command lines, each in its own working folder."""
    before = [snapshot(place) for place, _ in commands]
    done = subprocess.run(
        [sys.executable, "-c", FORKS, *imported],
        input="".join(json.dumps([str(place), words]) + "\n" for place, words in commands),
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    said = map(json.loads, done.stdout.splitlines())
    return [
        Answer(*what, before=earlier, after=snapshot(place))
        for what, earlier, (place, _) in zip(said, before, commands, strict=True)
    ]


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, Answer]:
    commands = [(furnished(tmp_path_factory.mktemp("mistake") / "place"), words.split()) for words in MISTAKES]
    return dict(zip(MISTAKES, forked(commands), strict=True))


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_one_line_told_before_anything_is_loaded_or_made(answers, words):
    line = answers[words].mistake()
    for part in MISTAKES[words]:
        assert part in line
    assert answers[words].loaded == []


def test_the_process_itself_ends_so(place):
    done = ganfleet(place, "train", "wgan-gp", "lr=fast")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: unknown family 'wgan-gp'; nearest: wgan_gp (known: {', '.join(family_names())});"
        " unknown setting 'lr'; nearest: family.lr\n"
    )


def test_no_words_at_all_print_the_help(place):
    before = snapshot(place)
    done = ganfleet(place)
    assert "Usage" in done.stdout
    assert "error: ;" not in done.stderr
    assert snapshot(place) == before


@pytest.mark.parametrize(
    "verb",
    [[], *([verb] for verb in ("train", "search", "evaluate", "sample", "ui", "submit", "jobs", "doctor"))],
    ids=" ".join,
)
def test_help(place, verb):
    before = snapshot(place)
    done = ganfleet(place, *verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage" in done.stdout
    for option in {"train": ["--config", "--dry-run", "--resume", "--from-search"], "sample": ["--out", "--count"]}.get(
        "".join(verb), []
    ):
        assert option in done.stdout
    assert snapshot(place) == before


@pytest.mark.parametrize(
    "words",
    [
        ["wgan_gp", "name=x", "family.lr=1e-3", "budget.images=500", "compute.workers=2"],
        ["name=x", "--config", "experiment.yaml", "budget.rounds=5"],
        ["--dry-run", "gan", "name=x", "storage.path=else where", "compute.workers=64"],
    ],
    ids=" ".join,
)
def test_a_dry_run_of_a_training_prints_it_and_makes_nothing(place, words):
    before = snapshot(place)
    done = ganfleet(place, "train", "--dry-run", *[word for word in words if word != "--dry-run"])
    assert (done.returncode, done.stderr) == (0, "")
    families = [word for word in words if word in ("wgan_gp", "gan")]
    config = (place / "experiment.yaml").read_text() if "--config" in words else ""
    asked = train_experiment(families, [word for word in words if "=" in word], config)
    assert TrainExperiment.from_yaml(done.stdout) == asked
    assert snapshot(place) == before


def test_data_may_be_said_in_a_word(place):
    pack = ganfleet(place, "train", "wgan_gp", "name=x", "data=s3://bucket/a b", "--dry-run")
    assert TrainExperiment.from_yaml(pack.stdout).data == Data(name="packed", path="s3://bucket/a b")
    by_name = ganfleet(place, "search", "wgan", "name=x", "data=photos", "--dry-run")
    assert SearchExperiment.from_yaml(by_name.stdout).data.name == "photos"


def test_a_dry_run_from_a_search_prints_its_best_settings_with_what_is_changed(place):
    before = snapshot(place)
    words = ["name=x", "budget.rounds=900", "compute.workers=2"]
    done = ganfleet(place, "train", "--from-search", "sure", *words, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    asked = small_train(Path("runs"), "wgan_gp", "none", *WINNER).override(*words)
    assert TrainExperiment.from_yaml(done.stdout) == asked
    assert snapshot(place) == before


def test_a_dry_run_of_a_search_prints_it_with_what_is_searched(place):
    before = snapshot(place)
    words = ["wgan", "wgan_gp", "name=x", "family.latent=32", "family.n_critic=2", "search.trials=3"]
    done = ganfleet(place, "search", *words, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert SearchExperiment.from_yaml(done.stdout) == search_experiment(words[:2], words[2:])
    comments = [line for line in done.stdout.splitlines() if line.startswith("#")]
    searched = {line.split()[1].rstrip(":") for line in comments if "." in line.split()[1]}
    assert searched == {"wgan.lr", "wgan.clip", "wgan_gp.lr", "wgan_gp.beta1", "wgan_gp.gp_lambda"}
    assert snapshot(place) == before


@pytest.mark.parametrize("words", ["train --resume first budget.rounds=80", "search --resume hunt search.trials=8"])
def test_a_dry_run_of_a_resumption_changes_nothing(place, words):
    before = snapshot(place)
    done = ganfleet(place, *words.split(), "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    shown = yaml.safe_load(done.stdout)
    assert shown["budget"]["rounds"] == (80 if "first" in words else 1000)
    assert shown.get("search", {"trials": 8})["trials"] == 8
    assert snapshot(place) == before


def test_a_mistake_that_is_found_late_leaves_no_run_behind_and_the_users_own_files(place):
    """Whoever named a store that is none types the same command again with a right one. A folder of the run's name may
    have been there before."""
    mine = place / "runs" / "mine"
    mine.mkdir()
    (mine / "photo.png").write_text("precious")
    uri = f"sqlite:///{place}/broken.yaml"
    done = ganfleet(place, "train", "wgan", "name=mine", "metrics.extractor=pixels", f"tracking.uri={uri}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: tracking.uri={uri}: cannot be opened")
    assert snapshot(mine) == {"photo.png": b"precious"}


def test_the_pages_of_a_server_are_at_its_address(place):
    before = snapshot(place)
    done = ganfleet(place, "ui", "tracking.uri=http://127.0.0.1:9")
    assert (done.returncode, done.stdout, done.stderr) == (0, "MLflow's pages are at http://127.0.0.1:9\n", "")
    assert snapshot(place) == before


# Commands that look at a run


def test_evaluate_prints_and_writes_what_the_library_says(played, storage, tmp_path):
    done = ganfleet(tmp_path, "evaluate", "played", f"storage.path={storage}", "--json", "fid.json")
    assert (done.returncode, done.stderr) == (0, "")
    written = json.loads((tmp_path / "fid.json").read_text())
    assert written == evaluated(played.folder.checkpoint(12), storage)
    assert written["fid"] == rows(played.folder.path)[-1]["fid"]
    printed = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert printed.keys() == written.keys() - {"warnings"}
    assert float(printed["fid"]) == pytest.approx(written["fid"], abs=1e-4)
    assert printed["checkpoint"] == str(played.folder.checkpoint(12))


LOOKING = {
    "sample played --count 5 --out new/five.png": "",
    "sample played": "",
    "sample played --label 3": "nearest: no --label",
    "sample played --out grid.jpg": "nearest: --out grid.png",
    "evaluate played --json nowhere/fid.json": "--json",
    "evaluate damaged": "sha256",
    "sample damaged": "sha256",
}
"""Commands that look at a run, and the mistake that takes the run to see."""


@pytest.fixture(scope="module")
def looks(played, storage, tmp_path_factory) -> dict[str, tuple[Path, Answer]]:
    damaged = RunFolder(storage / "damaged")
    path = damaged.checkpoint(12)
    path.mkdir(parents=True)
    damaged.experiment.write_bytes(played.folder.experiment.read_bytes())
    (path / "checkpoint.json").write_bytes((played.folder.checkpoint(12) / "checkpoint.json").read_bytes())
    (path / "state.safetensors").write_bytes(b"cut off")
    places = [tmp_path_factory.mktemp("look") / "place" for _ in LOOKING]
    for place in places:
        place.mkdir()
    words = [[*line.split(), f"storage.path={storage}"] for line in LOOKING]
    found = forked(
        list(zip(places, words, strict=True)), "pipelines.evaluate.command", "sklearn.datasets", "torch._dynamo"
    )
    return dict(zip(LOOKING, zip(places, found, strict=True), strict=True))


@pytest.mark.parametrize("words", [words for words, mistake in LOOKING.items() if mistake])
def test_a_mistake_that_takes_the_run_to_see_is_one_line_too(looks, words):
    assert LOOKING[words] in looks[words][1].mistake()


def test_sample_draws_as_many_as_asked_for(looks):
    place, answer = looks["sample played --count 5 --out new/five.png"]
    assert (answer.code, answer.out.split(), answer.err) == (0, ["new/five.png"], "")
    assert Image.open(place / "new" / "five.png").size == (3 * 50 + 2, 2 * 50 + 2)


def test_the_samples_are_those_of_the_runs_own_pictures(looks, played):
    place, answer = looks["sample played"]
    assert answer.code == 0
    assert (place / "samples.png").read_bytes() == played.folder.pictures()[-1].read_bytes()
