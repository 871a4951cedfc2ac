"""`space`, `search.points` and the other settings of a search, from a command line and from YAML."""

from pathlib import Path

import pytest
import yaml

from gan_core.measures import Objective
from gan_core.settings import SettingsError
from pipelines.launch._search_request import search_experiment
from pipelines.settings._experiments import SearchExperiment
from pipelines.settings._presets import PRESETS, preset_names, read_config
from tune_spaces.domains import Choice, Range, Whole
from tune_spaces.engines import searcher


def refusal(families, words, config="") -> str:
    with pytest.raises(SettingsError) as caught:
        search_experiment(families, words, config)
    message = str(caught.value)
    assert "\n" not in message
    return message


LR = Range(1e-5, 1e-2, log=True)


@pytest.mark.parametrize(
    ("words", "config"),
    [
        (["space=wide", "space.lr=uniform(0.1,0.2)", "space.wgan.clip=uniform(0.01,0.1)"], ""),
        (["space.wgan.clip=uniform(0.01,0.1)", "space.lr=uniform(0.1,0.2)", "space=wide"], ""),
        (["space.range=wide"], "space: {lr: 'uniform(0.1,0.2)', wgan: {clip: 'uniform(0.01,0.1)'}}"),
        (["space.lr=uniform(0.1,0.2)"], "space: {range: wide, lr: uniform(1e-3,0.2), wgan.clip: 'uniform(0.01,0.1)'}"),
        (["space.lr=uniform(0.1,0.2)", "space.wgan.clip=uniform(0.01,0.1)"], "space: wide"),
    ],
)
def test_a_range_and_domains_of_ones_own(words, config):
    config = config.replace("uniform(1e-3,0.2)", "'uniform(1e-3,0.2)'")
    experiment = search_experiment(["wgan", "wgan_gp"], ["name=x", *words], config)
    assert experiment.spaces() == {
        "wgan": {"lr": Range(0.1, 0.2), "clip": Range(0.01, 0.1), "n_critic": Choice((1, 5))},
        "wgan_gp": {
            "lr": Range(0.1, 0.2),
            "beta1": Range(0.0, 0.9999),
            "gp_lambda": Range(0.1, 100.0, log=True),
            "n_critic": Choice((1, 5)),
        },
    }
    again = SearchExperiment.from_yaml(experiment.to_yaml())
    assert again == experiment
    assert again.spaces() == experiment.spaces()
    assert again.override("search.trials=20").spaces() == experiment.spaces(), "as --resume does"


def test_a_familys_own_domain_goes_before_that_of_all():
    words = ["space.lr=loguniform(1e-5,1e-2)", "space.wgan.lr=uniform(0.1,0.2)"]
    spaces = search_experiment(["wgan", "wgan_gp"], words).spaces()
    assert (spaces["wgan"]["lr"], spaces["wgan_gp"]["lr"]) == (Range(0.1, 0.2), LR)


def test_fields_without_a_domain_of_their_own_get_one():
    words = ["space.latent=randint(8,64)", "space.net=choice(mlp,dcgan)", "space.instance_noise=uniform(0.01,1)"]
    spaces = search_experiment(["wgan", "dcgan"], words).spaces()
    assert spaces["wgan"]["latent"] == spaces["dcgan"]["latent"] == Whole(8, 64)
    assert spaces["wgan"]["net"] == Choice(("mlp", "dcgan"))
    assert "net" not in spaces["dcgan"]
    assert "instance_noise" not in spaces["wgan"]


def test_what_is_fixed_for_one_family_is_searched_for_the_other():
    spaces = search_experiment([], ["space.lr=loguniform(1e-5,1e-2)"], "families: [{name: wgan, lr: 0.01}, wgan_gp]")
    assert "lr" not in spaces.spaces()["wgan"]
    assert spaces.spaces()["wgan_gp"]["lr"] == LR


@pytest.mark.parametrize(
    ("families", "words", "told"),
    [
        (["wgan"], ["space=wiide"], "nearest: wide"),
        (["wgan"], ["space.lrr=uniform(0.1,1)"], "nearest: space.lr"),
        (["wgan_gp"], ["space.clip=uniform(0.1,1)"], "unknown setting 'space.clip'"),
        (["wgan"], ["space.wgam.lr=uniform(0.1,1)"], "nearest: space.wgan.lr"),
        (["wgan"], ["space.wgan_gp.lr=uniform(0.1,1)"], "nearest: space.wgan.lr"),
        (["wgan"], ["space.lr=fast"], "nearest: space.lr=loguniform(5e-05,0.002)"),
        (["wgan"], ["space.clip=uniform(0,1000)"], "from 1e-06 to 100; nearest: space.clip=uniform(1e-06,100)"),
        (["wgan"], ["space.lr=uniform(0.1,1)", "family.lr=0.1"], "nearest: leave out family.lr"),
        (["wgan"], ["space.wgan.lr=uniform(0.1,1)", "family.lr=0.1"], "nearest: leave out family.lr"),
        (["dcgan"], ["space.noise_rounds=randint(10,100)"], "nearest: family.instance_noise=0.1"),
        (["wgan"], ["data.name=ring8", "space.net=choice(mlp,dcgan)"], "is points; nearest: family.net=mlp"),
        (["wgan"], ["search.sampler=sobool"], "nearest: sobol"),
        (["wgan"], ["search.sampler=bohb"], "nearest: one of tpe, random, sobol, gp"),
        (["wgan"], ["search.scheduler=pbt"], "nearest: search.sampler=sobol"),
        (["wgan", "gan"], ["search.scheduler=pbt", "search.sampler=sobol", "search.trials=3"], "search.trials=8"),
        (["wgan", "gan", "vae"], ["search.compare=true", "search.trials=16"], "nearest: search.trials=18"),
        (["wgan", "gan", "wgan"], [], "named twice; nearest: wgan gan"),
        (["wgan"], ["family.lr=1e-4", "family.clip=0.01", "family.n_critic=2"], "nearest: ganfleet train wgan"),
        (["wgan"], ["search.trials=1", "search.points=[{lr: 1e-3}, {lr: 1e-4}]"], "nearest: search.trials=2"),
        (
            ["wgan", "gan"],
            [
                "search.compare=true",
                "search.trials=2",
                "search.points=[{family: gan, lr: 1e-3}, {family: gan, lr: 1e-4}]",
            ],
            "nearest: search.trials=4",
        ),
    ],
)
def test_a_mistake_is_told_with_the_nearest_right_one(families, words, told):
    assert told in refusal(families, words)


@pytest.mark.parametrize(
    "config", ["space: 5", "space: [wide]", "space: {range: wide, lr: [1, 2]}", "space: {lr: 0.1}"]
)
def test_a_file_with_no_space_in_it(config):
    assert "nearest: " in refusal(["wgan"], [], config)


# Points


def test_points_are_settings_of_a_trial_and_what_they_leave_out_is_the_familys_own():
    config = "search: {points: [{family: wgan_gp, lr: 1e-4}, {family: wgan, clip: 50, width: 8}]}"
    experiment = search_experiment(["wgan", "wgan_gp"], ["family.latent=16"], config)
    first, second = experiment.points()
    assert first == {"name": "wgan_gp", "lr": 1e-4, "beta1": 0.0, "gp_lambda": 10.0, "n_critic": 5}
    assert second == {"name": "wgan", "lr": 5e-5, "clip": 50.0, "n_critic": 5, "width": 8}
    trial = experiment.trial(second)
    assert (trial.family.clip, trial.family.width, trial.family.latent) == (50.0, 8, 16)
    engine = searcher("tpe", experiment.spaces(), 0, points=experiment.points(), defaults=experiment.defaults())
    asked = []
    for number in range(4):
        asked.append(engine.suggest(str(number))["settings"])
        engine.on_trial_complete(str(number), {"fid": 1.0, "step": 1})
    assert asked[:3] == [first, second, experiment.defaults()[0]]
    assert experiment.defaults()[1] == first
    assert asked[3] not in asked[:3], "no settings are played twice"
    assert SearchExperiment.from_yaml(experiment.to_yaml()).points() == [first, second]


def test_a_point_of_the_only_family_need_not_name_it():
    experiment = search_experiment(["wgan"], ["search.points=[{lr: 1e-4}, {}]"])
    assert [point["lr"] for point in experiment.points()] == [1e-4, 5e-5]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["search.points=[{lr: 0.1}]"], "search.points[0]: family '' is none of the search's"),
        (["search.points=[{family: wgan}, {family: wgam}]"], "search.points[1]: family 'wgam' is none of the search's"),
        (["search.points=[{family: wgan, lrr: 0.1}]"], "nearest: family.lr"),
        (["search.points=[{family: wgan_gp, clip: 0.1}]"], "(a setting of wgan)"),
        (["search.points=[{family: wgan, lr: 2}]"], "nearest: family.lr=1.0"),
        (["search.points=[{family: wgan, lr:2}]"], "'lr:2' lacks a space; nearest: lr: 2"),
        (["search.points=[{family: wgan, lr: 0.1}]", "family.lr=0.2"], "nearest: leave it out of the point"),
    ],
)
def test_a_point_that_cannot_be_played(words, told):
    assert told in refusal(["wgan", "wgan_gp"], words)


# Resources


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["compute.gpus=0.5", "compute.workers=2"], "nearest: compute.gpus=1"),
        (["compute.gpus=0.5", "compute.device=cpu"], "nearest: compute.device=cuda"),
        (["compute.gpus=0", "compute.device=cuda"], "nearest: compute.gpus=1"),
        (["compute.gpus=2"], "nearest: compute.gpus=1"),
        (["compute.cpus=0"], "nearest: compute.cpus=1"),
        (["compute.gpus=many"], "compute.gpus"),
    ],
)
def test_resources_that_make_no_sense(words, told):
    assert told in refusal(["wgan"], words)


# Around a run's settings


def values_of(name: str) -> dict:
    return yaml.safe_load((PRESETS / f"{name}.yaml").read_text())


ONE_RUN = [name for name in preset_names() if "name" in (values_of(name).get("family") or {})]


@pytest.mark.parametrize("preset", ONE_RUN)
@pytest.mark.parametrize("named", [True, False])
def test_a_search_begins_at_the_settings_of_a_run_and_searches_the_familys_own_space(preset, named):
    family = values_of(preset)["family"]
    found = search_experiment([family["name"]] if named else [], [], read_config(Path(preset)))
    plain = search_experiment([family["name"]], [])
    assert found.fixed == ()
    assert found.spaces() == plain.spaces()
    (first,) = found.defaults()
    assert first == {"name": family["name"], **{field: family.get(field, first[field]) for field in first}}
    trial = found.trial({"name": family["name"], "lr": 1e-3})
    kept = {field: value for field, value in family.items() if field not in ("name", "lr")}
    assert {field: getattr(trial.family, field) for field in kept} == kept
    assert trial.family.lr == 1e-3
    assert trial.data.name == values_of(preset)["data"]["name"]


def test_the_run_of_another_family_gives_what_the_searched_ones_have():
    experiment = search_experiment(["wgan"], [], read_config(Path("wgan_gp-cifar10")))
    (wgan,) = experiment.families
    assert (wgan.net, wgan.width, wgan.latent) == ("resnet", 128, 128)
    assert set(experiment.spaces()["wgan"]) == {"lr", "clip", "n_critic"}


FIXED = "families: [wgan, gan]\nfamily: {lr: 0.01, latent: 16}"


@pytest.mark.parametrize(
    ("words", "config", "searched"),
    [
        (["space.lr=uniform(0.1,0.2)"], FIXED, {"wgan", "gan"}),
        (["space.wgan.lr=uniform(0.1,0.2)"], FIXED, {"wgan"}),
        (["space={lr: 'uniform(0.1,0.2)'}"], FIXED, {"wgan", "gan"}),
        (["space.lr=uniform(0.1,0.2)"], "families: [{name: wgan, lr: 0.01}]", {"wgan"}),
        (["family.lr=0.5"], "families: [wgan, gan]\nspace: {lr: 'uniform(0.1,0.2)'}", set()),
        (["family.lr=0.5"], "families: [wgan, gan]\nspace: {gan: {lr: 'uniform(0.1,0.2)'}}", set()),
    ],
)
def test_what_is_typed_wins_over_the_file(words, config, searched):
    experiment = search_experiment([], words, config)
    assert {name for name, space in experiment.spaces().items() if "lr" in space} == searched
    for name in searched:
        assert experiment.spaces()[name]["lr"] == Range(0.1, 0.2)
    if "family.lr=0.5" in words:
        assert [family.lr for family in experiment.families] == [0.5, 0.5]
    elif "latent" in config:
        assert [family.latent for family in experiment.families] == [16, 16]
        assert "latent" in experiment.fixed


# The batch


BATCHES = "space.data.batch_size=choice(16,32,64)"


def test_the_batch_is_searched_beside_each_familys_fields():
    experiment = search_experiment(["wgan", "gan"], [BATCHES, "data.image_size=8"])
    assert [space["data.batch_size"] for space in experiment.spaces().values()] == [Choice((16, 32, 64))] * 2
    trial = experiment.trial({"name": "wgan", "lr": 1e-3, "data.batch_size": 32})
    assert (trial.data.batch_size, trial.data.image_size, trial.family.lr) == (32, 8, 1e-3)
    assert experiment.trial({"name": "gan"}).data.batch_size == 64
    assert experiment.batches == (16, 64)
    assert search_experiment(["gan"], ["data.batch_size=8"]).batches == (8, 8)
    again = SearchExperiment.from_yaml(experiment.to_yaml())
    assert again.spaces() == experiment.spaces()


def test_points_and_the_familys_own_settings_have_a_batch():
    points = "search.points=[{lr: 1e-3, data.batch_size: 16}, {lr: 1e-4}]"
    experiment = search_experiment(["gan"], [BATCHES, points])
    assert [point["data.batch_size"] for point in experiment.points()] == [16, 64]
    assert [one["data.batch_size"] for one in experiment.defaults()] == [64]
    told = refusal(["gan"], [BATCHES, "search.points=[{data.batch_size: 1}]"])
    assert told == "search.points[0]: data.batch_size=1 is out of range, at least 2; nearest: data.batch_size=2"


def test_the_batch_of_a_runs_file_gives_way_to_a_typed_domain():
    experiment = search_experiment([], [BATCHES], read_config(Path("wgan_gp-cifar10")))
    assert experiment.batches == (16, 64)
    config = "families: [gan]\nspace: {data.batch_size: 'choice(16,32)'}"
    assert search_experiment([], ["data.batch_size=8"], config).batches == (8, 8)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([BATCHES, "data.batch_size=32"], "data.batch_size=32 fixes it; nearest: leave out data.batch_size"),
        (["space.batch_size=choice(16,32)"], "unknown setting 'space.batch_size'; nearest: space.data.batch_size"),
        (["space.data.batch_size=choice(1,32)"], "takes whole numbers from 2 to 1.04858e+06"),
        (["space.data.batch_size=choice(32)"], "is one value, nothing to search; nearest: data.batch_size=32"),
        (["space.data.batch_size=uniform(8,32)"], "nearest: space.data.batch_size=randint(8,32)"),
        (["space.data.batch_size=big"], "is no domain; nearest: space.data.batch_size=randint(32,128)"),
        ([BATCHES, "compute.workers=3"], "nearest: space.data.batch_size=choice(24,48)"),
        (
            [BATCHES, "data.micro_batch=32"],
            "does not divide; nearest: space.data.batch_size=choice(32,64)",
        ),
        (
            ["space.data.batch_size=randint(10,70)", "compute.workers=2"],
            "nearest: space.data.batch_size=choice(16,32,64)",
        ),
    ],
)
def test_a_mistake_in_the_batchs_domain_is_told(words, told):
    assert told in refusal(["gan"], words)


# The objective


def test_the_objective_is_fid_unless_another_is_named(tmp_path):
    plain = search_experiment(["wgan"], [])
    assert plain.objective == Objective("fid", "min")
    assert plain.trial({"name": "wgan"}).metrics.measures == ()
    older = yaml.safe_load(plain.to_yaml())
    del older["search"]["metric"], older["search"]["mode"], older["metrics"]["measures"]
    assert SearchExperiment.load(older).objective == plain.objective, "a search that began before there was a choice"


@pytest.mark.parametrize(
    ("words", "name", "mode", "label"),
    [
        (["search.metric=precision"], "precision", "max", "precision"),
        (["search.metric=inception_score", "search.mode=max"], "inception_score", "max", "Inception Score"),
        (["search.metric=kid", "metrics.extractor=my_pkg:Net"], "kid", "min", "KID"),
        (["search.metric=modes", "data.name=ring8"], "modes", "max", "modes"),
        (["search.metric=my_pkg:my_score"], "my_score", "min", "my_score"),
        (["search.metric=my_pkg:my_score", "search.mode=max"], "my_score", "max", "my_score"),
    ],
)
def test_a_trial_measures_the_objective_next_to_what_the_settings_name(words, name, mode, label):
    experiment = SearchExperiment.load({"families": ["wgan"]}).override(*words, "metrics.measures=[recall,precision]")
    assert experiment.objective == Objective(name, mode)
    assert experiment.objective.label == label
    metric = words[0].partition("=")[2]
    measures = experiment.trial({"name": "wgan"}).metrics.measures
    assert set(measures) == {metric, "recall", "precision"}
    assert len(measures) == len(set(measures))


REFUSED = {
    "search.metric=fidd": "unknown search.metric 'fidd'; nearest: fid (known: fid, kid, ",
    "search.metric=nosuch.place:score": "search.metric=nosuch.place:score: Python finds no module 'nosuch'",
    "search.metric=statistics:fmeen": "search.metric=statistics:fmeen: statistics has no 'fmeen'; nearest: fmean",
    "search.metric=statistics:NormalDist": "search.metric=statistics:NormalDist is no function; nearest: def Normal",
    "search.metric=a.b:step": "search.metric=a.b:step: step is the name of something else",
    "search.metric=a.b:timely": "search.metric=a.b:timely: timely is the name of something else",
    "search.metric=a.b:clip": "search.metric=a.b:clip: clip is the name of something else in rows and tables",
    "search.mode=max": "search.mode=max contradicts search.metric=fid, of which lower is better; nearest: search.mode",
    "search.metric=recall search.mode=min": "search.mode=min contradicts search.metric=recall, of which higher is",
    "search.metric=kid": "search.metric=kid: its kernel is not made for metrics.extractor=classifier; nearest: metrics",
    "search.metric=inception_score data.name=ring8": "search.metric=inception_score: metrics.extractor=pixels does",
    "search.metric=inception_score metrics.extractor=pixels": "search.metric=inception_score: metrics.extractor=pix",
    "search.metric=high_quality": "search.metric=high_quality is of mixtures, the data are images; nearest: search.m",
    "search.metric=recall metrics.statistics=x.npz": "search.metric=recall compares with single real images, metrics",
    "search.metric=coverage metrics.samples=5": "search.metric=coverage takes more than metrics.samples=5; nearest:",
    "metrics.measures=[a:x,b.c:x]": "metrics.measures has a:x and b.c:x, both logged as x",
    "metrics.measures=fid": "unknown metrics.measures 'fid'; nearest: ",
}


@pytest.mark.parametrize("words", REFUSED)
def test_an_objective_that_cannot_be_had_is_refused_with_the_nearest(words):
    with pytest.raises(SettingsError) as caught:
        search_experiment(["wgan"], words.split())
    assert str(caught.value).startswith(REFUSED[words])
    assert "nearest: " in str(caught.value)


# Families of one name

TWO = "families: [{name: gan, loss: minimax, lr: 1e-3}, {name: gan, latent: 20}, wgan]"


def test_families_of_one_name_are_told_apart_by_the_values_in_which_they_differ():
    experiment = search_experiment([], ["search.trials=6", "search.compare=true"], TWO)
    minimax, other, wgan = experiment.entries
    assert wgan == "wgan"
    assert minimax == "gan-100-0.001-minimax"
    assert other == "gan-20-0.0002-non_saturating"
    assert [family.name for family in experiment.families] == ["gan", "gan", "wgan"]
    spaces = experiment.spaces()
    assert "lr" not in spaces[minimax], "it is fixed in this one"
    assert {"lr", "beta1"} <= set(spaces[other])
    played = experiment.trial({"name": minimax, "beta1": 0.25}, seed=3)
    assert (played.family.name, played.family.loss, played.family.lr, played.family.beta1) == (
        "gan",
        "minimax",
        1e-3,
        0.25,
    )
    again = SearchExperiment.from_yaml(experiment.to_yaml())
    assert list(again.entries) == list(experiment.entries)
    assert again.spaces() == spaces


def test_a_field_is_set_in_the_families_where_it_changes_something():
    gan, wgan = search_experiment(["gan", "wgan"], ["family.beta1=0.4"]).families
    assert (gan.beta1, wgan.beta1) == (0.4, 0.0), "wgan plays RMSProp"
    gan, wgan = search_experiment(["gan", "wgan"], ["family.beta1=0.4", "family.optimizer=adam"]).families
    assert (gan.beta1, wgan.beta1) == (0.4, 0.4)
    with pytest.raises(SettingsError, match="^family.beta1=0.4 has no meaning with family.optimizer=rmsprop"):
        search_experiment(["wgan"], ["family.beta1=0.4"])


def test_each_of_them_has_its_own_trials_and_an_equal_share():
    experiment = search_experiment([], ["search.trials=9", "search.compare=true", "search.sampler=random"], TWO)
    sampler = searcher("random", experiment.spaces(), 0, compare=True)
    drawn = [sampler.suggest(f"t{number}")["settings"] for number in range(9)]
    assert {label: sum(one["name"] == label for one in drawn) for label in experiment.entries} == dict.fromkeys(
        experiment.entries, 3
    )
    assert len({one["beta1"] for one in drawn if "beta1" in one}) == 6, "they do not share what they draw"


def test_a_domain_is_of_both_by_name_and_of_one_by_what_the_search_calls_it():
    config = "families: [{name: gan, loss: minimax}, gan]"
    both = search_experiment([], ["space.gan.lr=uniform(0.1,0.2)"], config)
    assert [space["lr"] for space in both.spaces().values()] == [Range(0.1, 0.2)] * 2
    one = search_experiment([], ["space.gan-minimax.lr=uniform(0.1,0.2)"], config)
    assert one.spaces()["gan-minimax"]["lr"] == Range(0.1, 0.2) != one.spaces()["gan-non_saturating"]["lr"]
    points = search_experiment([], ["search.points=[{family: gan-minimax, lr: 0.5}]"], config).points()
    assert points[0]["name"] == "gan-minimax"
    assert points[0]["lr"] == 0.5
    assert "family gan is named twice" in refusal([], [], "families: [gan, gan]")
    assert "gan-minimax" in refusal([], ["search.points=[{family: gan, lr: 0.5}]"], config)


def test_a_file_may_have_settings_of_a_data_set():
    config = (
        "families: [wgan]\ndata: {name: digits, flip: true}\ndata_sets: {photos: {data: {image_size: 32}, seed: 3}}"
    )
    assert search_experiment([], [], config).data.image_size == 16
    photos = search_experiment([], ["data.name=photos", "seed=4"], config)
    assert (photos.data.image_size, photos.data.flip, photos.seed) == (32, True, 4)
    assert search_experiment([], [], config.replace("digits", "photos")).seed == 3
    assert "data_sets=3 are no settings" in refusal(["wgan"], [], "data_sets: 3")
