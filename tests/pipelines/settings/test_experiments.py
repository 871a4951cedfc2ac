"""The experiment that a command line and a file ask for, or one line that says what is wrong with them."""

from pathlib import Path

import pytest

from gan_core.family import build_family, family_class
from gan_core.settings import SettingsError
from pipelines.launch._request import CommandLine, train_experiment, train_request
from pipelines.launch._search_request import search_experiment, search_request
from pipelines.settings._experiments import SearchExperiment, TrainExperiment


def refusal(make, *args) -> str:
    with pytest.raises(SettingsError) as caught:
        make(*args)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


# train


def test_a_family_alone_is_the_papers_game_with_a_name_made_up():
    experiment = train_request(CommandLine(["dcgan"], [])).experiment
    assert experiment.family == family_class("dcgan")()
    assert experiment.name.startswith("dcgan-")
    assert (experiment.budget.rounds, experiment.data.batch_size, experiment.compute.workers) == (1000, 64, 1)
    assert experiment.storage.path == Path("runs")
    assert experiment.folder == Path.cwd() / "runs" / experiment.name
    assert experiment.tracking_uri == f"sqlite:///{Path.cwd()}/runs/mlflow.db"


def test_a_command_line_sets_what_it_says():
    words = ["name=first", "family.lr=5e-4", "budget.images=4096", "compute.workers=2", "compute.precision=bf16"]
    experiment = train_experiment(["wgan_gp"], [*words, "storage.path=/data", "tracking.uri=http://host:5000"])
    assert experiment.family == build_family({"name": "wgan_gp", "lr": 5e-4})
    assert (experiment.budget.images, experiment.budget.rounds) == (4096, None)
    assert (experiment.compute.workers, experiment.compute.precision) == (2, "bf16")
    assert experiment.folder == Path("/data/first")
    assert experiment.tracking_uri == "http://host:5000"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([], "ganfleet ui"),
        (["storage.path=/data"], "ganfleet ui storage.path=/data"),
        (["tracking.uri=http://host:5000"], "http://host:5000"),
        (["storage.path=/data", "tracking.uri=https://me:secret@host/mlflow"], "https://host/mlflow"),
        (["storage.path=s3://b/runs", "tracking.uri=http://host:5000"], "http://host:5000"),
        (["storage.path=/data", "tracking.uri=sqlite:////a/m.db"], "ganfleet ui tracking.uri=sqlite:////a/m.db"),
    ],
)
def test_where_the_curves_are_is_where_it_is_tracked(words, shown, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    assert train_experiment(["wgan_gp"], words).curves == shown


LOOKS_LIKE_MORE = ["3e2", "0x1F", "2_024", "off", "2026-01-31", "1.50", "010"]
"""Words that YAML, or Python, takes for a number, a truth or a date."""


@pytest.mark.parametrize("word", LOOKS_LIKE_MORE)
def test_a_text_is_what_was_typed_whatever_it_looks_like(word):
    typed = train_experiment(
        ["wgan"], [f"name={word}", f"storage.path={word}", "data.name=folder", f"data.path={word}"]
    )
    config = f"{{family: wgan, name: {word}, storage: {{path: {word}}}, data: {{name: folder, path: {word}}}}}"
    read = train_experiment([], [], config)
    assert (typed.name, typed.storage.path, typed.data.path) == (word, Path(word), Path.cwd() / word)
    assert read == typed
    assert train_experiment([], [], typed.to_yaml()) == typed


@pytest.mark.parametrize("word", ["[a] b", "{x}", "{", "null", "3e2"])
def test_a_folder_may_have_any_name(word):
    experiment = train_experiment(["wgan"], [f"storage.path={word}", "data.name=folder", f"data.path=./{word}"])
    assert experiment.storage.path == Path(word)
    assert experiment.data.path == Path.cwd() / word


def test_the_home_folder_is_a_path(monkeypatch):
    monkeypatch.setenv("HOME", "/somebody")
    words = ["data.name=folder", "data.path=~", "metrics.weights=null", "tracking.uri=null", "name=null"]
    experiment = train_experiment(["wgan"], words)
    assert experiment.data.path == Path("/somebody")
    assert (experiment.metrics.weights, experiment.tracking.uri, experiment.name) == (None, None, None)


@pytest.mark.parametrize(
    ("words", "config"),
    [
        (["budget.images=2e5", "data.download=on", "seed=2_000", "search.max_concurrent=~"], ""),
        ([], "{budget: {images: 200_000}, data: {download: on}, seed: 0x7d0, search: {max_concurrent: ~}}"),
    ],
)
def test_numbers_truths_and_lists_are_read_as_before(words, config):
    points = "[{lr: 0.5e-3, n_critic: 0x2}, {lr: 1.e-3}]"
    words = [*words, "data.name=mnist", f"search.points={points}"]
    experiment = search_experiment(["wgan"], words, config)
    assert (experiment.budget.images, experiment.data.download, experiment.seed) == (200_000, True, 2000)
    assert experiment.search.max_concurrent is None
    assert [point["n_critic"] for point in experiment.search.points if "n_critic" in point] == [2]
    same = search_experiment(["wgan"], ["data.name=mnist", *words[:-1]], f"search: {{points: {points}}}")
    assert same.search.points == experiment.search.points


@pytest.mark.parametrize("path", ["S3://bkt/runs", "S3:/bkt/runs", "s3:bkt/runs", "GS://bkt/runs", "s3+x://bkt/runs"])
def test_what_has_a_scheme_is_no_folder(path):
    line = refusal(train_experiment, ["wgan_gp"], [f"storage.path={path}"])
    assert line == f"storage.path={path} is no place; nearest: storage.path=s3://bkt/runs"


DATABASE = "http://HOST:PORT of an MLflow server before it, or tracking.uri=sqlite:////FOLDER/mlflow.db"
EITHER = "http://HOST:PORT, or tracking.uri=sqlite:////FOLDER/mlflow.db"


@pytest.mark.parametrize(
    ("uri", "right"),
    [
        ("127.0.0.1:17932", "http://127.0.0.1:17932"),
        ("mlflow.lab:5000/team", "http://mlflow.lab:5000/team"),
        ("http:/host:5000", "http://host:5000"),
        ("HTTP://host:5000", "http://host:5000"),
        ("https://", "https://HOST:PORT"),
        ("http://a b", "http://HOST:PORT"),
        ("sqlite:///runs/mlflow.db", f"sqlite:///{Path.cwd()}/runs/mlflow.db"),
        ("sqlite:///:memory:", "sqlite:////FOLDER/mlflow.db"),
        ("sqlite:////a/m.db?x=1", "sqlite:////FOLDER/mlflow.db"),
        ("postgresql://me:secret@host/mlflow", DATABASE),
        ("mysql+pymysql://host/mlflow", DATABASE),
        ("./mlruns", EITHER),
        ("file:///a", EITHER),
        ("", EITHER),
    ],
)
def test_a_store_that_none_can_share_is_refused_before_anything_starts(uri, right):
    line = refusal(train_experiment, ["wgan_gp"], [f"tracking.uri={uri}"])
    assert line.startswith(f"tracking.uri={uri.replace('me:secret', '***')} ")
    assert line.endswith(f"; nearest: tracking.uri={right}")


@pytest.mark.parametrize(
    "config",
    [
        "family: wgan_gp\n",
        "family: {name: wgan_gp}\nbudget:\n",
        "family: {name: wgan_gp, lr: 0.1}\nbudget: {rounds: 7}\n",
    ],
)
def test_a_file_gives_the_family_and_the_command_line_wins(config):
    experiment = train_experiment([], ["family.lr=0.2", "budget.rounds=9"], config)
    assert experiment.family == build_family({"name": "wgan_gp", "lr": 0.2})
    assert experiment.budget.rounds == 9


def test_what_the_command_line_leaves_is_the_files():
    config = "name: filed\nseed: 3\nfamily: {name: wgan, clip: 0.5, n_critic: 2}\nbudget: {rounds: 7, log_every: 5}\n"
    experiment = train_experiment([], ["family.n_critic=4", "budget.log_every=1"], config)
    assert experiment.family == build_family({"name": "wgan", "clip": 0.5, "n_critic": 4})
    assert (experiment.budget.rounds, experiment.budget.log_every, experiment.seed) == (7, 1, 3)
    assert experiment.name == "filed"
    same = train_experiment(["wgan"], [], config)
    assert same.family.clip == 0.5


def test_another_family_on_the_command_line_takes_nothing_from_the_files_family():
    config = "seed: 3\nfamily: {name: wgan, lr: 0.5, clip: 0.5}\n"
    experiment = train_experiment(["wgan_gp"], [], config)
    assert experiment.family == family_class("wgan_gp")()
    assert experiment.seed == 3


def test_yaml_round_trip_of_a_training_run():
    words = ["name=x", "family.loss=minimax", "budget.images=100", "compute.workers=4", "tracking.uri=http://a:1"]
    before = train_experiment(["gan"], [*words, "metrics.extractor=pixels", "storage.path=/a b/c"])
    after = TrainExperiment.from_yaml(before.to_yaml())
    assert after == before
    assert type(after.family) is family_class("gan")
    assert train_experiment([], [], before.to_yaml()) == before


def test_a_best_yaml_trains_again_with_a_name_of_its_own(tmp_path):
    """As `report._tables.write_tables` makes it: a trial's settings without the search's name."""
    search = search_experiment(["wgan"], ["name=hunt", "budget.rounds=60", "family.width=4"])
    best = search.trial({"name": "wgan", "lr": 1e-3, "clip": 0.02, "n_critic": 3}).model_copy(update={"name": None})
    (tmp_path / "best.yaml").write_text(best.to_yaml())
    again = train_request(CommandLine([], ["budget.rounds=600"], tmp_path / "best.yaml")).experiment
    assert again.family == build_family({"name": "wgan", "lr": 1e-3, "clip": 0.02, "n_critic": 3, "width": 4})
    assert again.budget.rounds == 600
    assert again.name.startswith("wgan-")


# search


def test_a_search_of_two_families_with_what_is_fixed():
    experiment = search_experiment(
        ["wgan", "wgan_gp"], ["name=hunt", "family.latent=32", "family.clip=0.02", "search.trials=5", "seed=9"]
    )
    assert experiment.families == (
        build_family({"name": "wgan", "latent": 32, "clip": 0.02}),
        build_family({"name": "wgan_gp", "latent": 32}),
    )
    assert set(experiment.fixed) == {"latent", "clip"}
    assert (experiment.search.trials, experiment.seed) == (5, 9)
    assert (experiment.search.sampler, experiment.search.scheduler) == ("tpe", "asha")
    assert search_request(CommandLine(["wgan", "gan"], [])).experiment.name.startswith("wgan-gan-")
    assert search_experiment(["wgan"], []).fixed == ()


def test_a_field_that_no_family_has_is_refused_even_if_others_have_it():
    message = refusal(search_experiment, ["wgan_gp", "dcgan"], ["family.clip=0.01"])
    assert "family.clip" in message
    assert "of wgan" in message
    assert "nearest: leave it out, or family wgan" in message
    assert "nearest: family.n_critic" in refusal(search_experiment, ["wgan"], ["family.ncritic=3"])


def test_a_fields_range_is_checked_for_each_family():
    assert "nearest: family.lr=1.0" in refusal(search_experiment, ["wgan", "gan"], ["family.lr=2"])


def test_the_family_of_a_search_cannot_be_set_as_a_field():
    """Otherwise it would be ignored."""
    assert "name" in refusal(search_experiment, ["wgan"], ["family.name=dcgan"])


def test_a_search_from_a_file_and_the_command_line():
    config = (
        "families: [wgan, wgan_gp]\nfamily: {latent: 16}\nbudget: {rounds: 60}\nsearch: {trials: 3, sampler: random}\n"
    )
    experiment = search_experiment([], ["search.trials=4", "family.n_critic=2"], config)
    assert [family.name for family in experiment.families] == ["wgan", "wgan_gp"]
    assert {(family.latent, family.n_critic) for family in experiment.families} == {(16, 2)}
    assert set(experiment.fixed) == {"latent", "n_critic"}
    assert (experiment.search.trials, experiment.search.sampler, experiment.budget.rounds) == (4, "random", 60)
    assert [family.name for family in search_experiment(["gan"], [], config).families] == ["gan"]


def test_a_field_fixed_for_one_family_in_a_file_is_searched_for_the_other():
    config = "families: [{name: wgan, lr: 0.01}, wgan_gp]\n"
    experiment = search_experiment([], [], config)
    assert "lr" not in experiment.spaces()["wgan"]
    assert "lr" in experiment.spaces()["wgan_gp"]


def test_a_search_with_the_settings_of_a_best_yaml():
    best = train_experiment(["wgan"], ["name=x", "family.lr=0.01", "budget.rounds=9"]).model_copy(update={"name": None})
    experiment = search_experiment(["wgan"], ["search.trials=1"], best.to_yaml())
    assert (experiment.budget.rounds, experiment.search.trials) == (9, 1)


def test_the_file_of_a_run_names_the_family_that_is_searched():
    assert [family.name for family in search_experiment([], [], "family: wgan\n").families] == ["wgan"]
    assert "families: [wgan]" in refusal(search_experiment, [], [], "family: [wgan]\n")


def test_one_family_without_brackets_in_a_searchs_file_is_not_taken_letter_by_letter():
    experiment = search_experiment([], [], "families: wgan\n")
    assert [family.name for family in experiment.families] == ["wgan"]


def test_yaml_round_trip_of_a_search():
    words = ["name=hunt", "family.latent=32", "search.max_concurrent=2", "search.scheduler=none", "budget.images=500"]
    before = search_experiment(["gan", "wgan_gp"], words)
    after = SearchExperiment.from_yaml(before.to_yaml())
    assert after == before
    assert [type(family) for family in after.families] == [family_class("gan"), family_class("wgan_gp")]
    assert after.trial({"name": "gan", "lr": 0.1}) == before.trial({"name": "gan", "lr": 0.1})


@pytest.mark.parametrize("again", [False, True], ids=["fresh", "from its file"])
def test_a_trial_has_the_sampled_fields_the_fixed_ones_and_the_searchs_own_settings(again):
    words = ["name=hunt", "seed=5", "family.latent=32", "compute.workers=2", "budget.rounds=90", "storage.path=/data"]
    search = search_experiment(["wgan", "wgan_gp"], [*words, "budget.eval_every=30", "metrics.samples=50"])
    if again:
        search = SearchExperiment.from_yaml(search.to_yaml())
    trial = search.trial({"name": "wgan_gp", "lr": 2e-4, "beta1": 0.3, "gp_lambda": 1.5, "n_critic": 3})
    assert isinstance(trial, TrainExperiment)
    sampled = {"lr": 2e-4, "beta1": 0.3, "gp_lambda": 1.5, "n_critic": 3}
    assert trial.family == build_family({"name": "wgan_gp", "latent": 32, **sampled})
    assert trial.seed == 5
    assert (trial.budget.rounds, trial.budget.eval_every, trial.budget.checkpoint_every) == (90, 30, 30)
    assert (trial.compute.workers, trial.metrics.samples, trial.storage.path) == (2, 50, Path("/data"))
    assert TrainExperiment.from_yaml(trial.to_yaml()) == trial


@pytest.mark.parametrize("again", [False, True], ids=["fresh", "from its file"])
def test_a_trial_of_a_search_in_images_ends_by_images(again):
    search = search_experiment(["wgan"], ["name=hunt", "budget.images=6400"])
    if again:
        search = SearchExperiment.from_yaml(search.to_yaml())
    trial = search.trial({"name": "wgan", "n_critic": 5})
    assert (trial.budget.images, trial.budget.rounds) == (6400, None)
    assert trial.budget.last_round(images_per_round=5 * 64) == 20
    assert trial.budget.checkpoint_every == trial.budget.eval_every


# Mistakes


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("a/b", "a-b"),
        ("../up", "up"),
        (".hidden", "hidden"),
        ("my run", "my-run"),
        ("größe", "gr-e"),
        ("-x", "x"),
        ("/", "run"),
        ("a" * 101, "a" * 100),
    ],
)
def test_a_name_that_is_no_folder_name(given, right):
    for make in (train_experiment, search_experiment):
        message = refusal(make, ["wgan"], [f"name={given}"])
        assert message.endswith(f"nearest: name={right}")
        assert make(["wgan"], [f"name={right}"]).name == right


@pytest.mark.parametrize(("given", "kept"), [("auto", None), ("null", None), ("1", 1), ("12", 12)])
def test_max_concurrent(given, kept):
    search = search_experiment(["wgan"], ["name=x", f"search.max_concurrent={given}"])
    assert search.search.max_concurrent == kept
    assert SearchExperiment.from_yaml(search.to_yaml()) == search


@pytest.mark.parametrize(
    ("given", "right"), [("many", "=auto"), ("0", "=1"), ("-3", "=1"), ("1.5", "=auto"), ("[1]", "=auto")]
)
def test_max_concurrent_that_is_no_count(given, right):
    message = refusal(search_experiment, ["wgan"], [f"search.max_concurrent={given}"])
    assert message.endswith(f"nearest: search.max_concurrent{right}")


@pytest.mark.parametrize(
    ("batch", "workers", "right"), [(64, 3, 63), (65, 2, 64), (7, 4, 8), (3, 16, 16), (100, 64, 128)]
)
def test_a_batch_that_cannot_be_shared_equally(batch, workers, right):
    for make in (train_experiment, search_experiment):
        words = [f"data.batch_size={batch}", f"compute.workers={workers}"]
        message = refusal(make, ["wgan"], words)
        assert f"data.batch_size={batch}" in message
        assert f"compute.workers={workers}" in message
        assert message.endswith(f"nearest: data.batch_size={right}")
        make(["wgan"], [f"data.batch_size={right}", f"compute.workers={workers}"])


@pytest.mark.parametrize(
    ("batch", "workers", "fewest", "right"),
    [
        (64, 2, 3, "compute.min_workers=2"),
        (64, 4, 2, "data.batch_size=60"),
        (63, 2, 1, "data.batch_size=64"),
        (64, 64, 1, "compute.min_workers=64"),
        (60, 12, 3, "compute.min_workers=12"),
        (12, 6, 3, "compute.min_workers=6"),
    ],
)
def test_fewer_workers_must_be_able_to_share_the_batch_too(batch, workers, fewest, right):
    def words(*others):
        return ["name=x", f"data.batch_size={batch}", f"compute.workers={workers}", *others]

    message = refusal(train_experiment, ["wgan"], words(f"compute.min_workers={fewest}"))
    assert message.endswith(f"nearest: {right}")
    put_right = words(f"compute.min_workers={fewest}", right)
    compute = train_experiment(["wgan"], put_right).compute
    assert compute.fewest <= compute.workers == workers


def test_fewer_workers_are_for_training_runs():
    assert train_experiment(["wgan"], ["name=x", "compute.workers=2"]).compute.fewest == 2
    message = refusal(search_experiment, ["wgan"], ["compute.workers=2", "compute.min_workers=1"])
    assert message.endswith("nearest: compute.min_workers=null")
    search_experiment(["wgan"], ["compute.workers=2", "compute.min_workers=null"])


@pytest.mark.parametrize(
    ("make", "families", "words", "told"),
    [
        (train_experiment, ["wgan-gp"], ["lr=fast"], ["'wgan-gp'", "wgan_gp", "'lr'", "family.lr"]),
        (train_experiment, ["wgam"], ["family.clip=1000"], ["'wgam'", "nearest: wgan", "family.clip=100.0"]),
        (train_experiment, ["gan"], ["family.lr=fast", "budget.rounds=0"], ["family.lr", "budget.rounds=1"]),
        (train_experiment, ["gan"], ["data.name=digit", "data.image_size=6"], ["digits", "data.image_size=8"]),
        (search_experiment, ["wgan", "wgan-gp", "gann"], [], ["nearest: wgan_gp", "nearest: gan"]),
        (search_experiment, ["wgam"], ["serch.trials=3"], ["nearest: wgan", "search.trials"]),
        (search_experiment, ["wgan"], ["search.trials=0", "search.sampler=tpo"], ["search.trials=1", "nearest: tpe"]),
    ],
)
def test_two_mistakes_are_told_in_one_line(make, families, words, told):
    message = refusal(make, families, words)
    for part in told:
        assert part in message


@pytest.mark.parametrize(
    ("make", "families", "words", "config", "told"),
    [
        (train_experiment, [], [], "", "ganfleet train wgan_gp"),
        (search_experiment, [], [], "", "ganfleet search wgan wgan_gp"),
        (train_experiment, ["wgan", "gan"], [], "", "nearest: train wgan"),
        (train_experiment, ["wgan"], ["metrics.weights=nowhere.safetensors"], "", "metrics.weights=null"),
        (search_experiment, ["wgan"], ["metrics.weights=nowhere.safetensors"], "", "metrics.weights=null"),
        (train_experiment, ["wgan"], ["search.trials=3"], "", "search.trials"),
        (train_experiment, ["wgan"], [], "bugdet: {rounds: 5}", "nearest: budget"),
        (train_experiment, ["wgan"], [], "budget: {round: 5}", "nearest: budget.rounds"),
        (train_experiment, ["wgan"], [], "budget: 5", "budget"),
        (train_experiment, ["wgan"], ["budget.rounds=5"], "budget: 5", "budget"),
        (train_experiment, [], [], "family: wgam", "nearest: wgan"),
        (train_experiment, [], [], "family: {lr: 0.1}", "known: "),
        (train_experiment, ["wgan"], [], "- a list", "key: value"),
        (train_experiment, ["wgan"], [], "a: [", "not YAML"),
        (search_experiment, ["wgan"], [], "serch: {trials: 3}", "nearest: search"),
    ],
)
def test_a_mistake_is_told(make, families, words, config, told):
    assert told in refusal(make, families, words, config)
