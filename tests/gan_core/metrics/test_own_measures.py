"""Measures next to FID: of pairs of features, and a function of the user's own."""

import numpy as np
import pytest
import torch

from gan_core.data.dataset import Dataset
from gan_core.experiment import Experiment
from gan_core.loop import Game
from gan_core.measures import FID, Objective, own_measure
from gan_core.metrics import scores as module
from gan_core.metrics.pairs.kid import kid
from gan_core.metrics.pairs.precision_recall import precision_recall
from gan_core.metrics.scores import MeasureError, check_reference, sample_range, scores, try_own_measure
from gan_core.metrics.statistics import tally as tallies
from gan_core.metrics.statistics.reference import Reference, real_batches
from gan_core.metrics.statistics.tally import Tally
from gan_core.settings import SettingsError

HERE = __name__
SEEN: list[tuple] = []


def watched(images, labels, real):
    SEEN.append((images, labels, real))
    return np.float32(0.25)


def lottery(images, labels, real):
    return torch.rand(()) + images.float().mean()


def spoiled(images, labels, real):
    images.zero_()
    real.zero_()
    return torch.tensor([3])


def broken(images, labels, real):
    raise KeyError("digit 7")


def wordy(images, labels, real):
    return "0.5"


def undefined(images, labels, real):
    return torch.zeros(()) / 0


def many(images, labels, real):
    return images.float().mean(dim=0)


def of_two(images, real):
    return 0.0


def game_of(family: str, *measures: str, classes: int = 1) -> Game:
    settings = Experiment.load({"family": family}).override("family.width=4", "metrics.samples=300")
    metrics = settings.metrics.model_copy(update={"measures": tuple(measures)})
    return Game(settings.model_copy(update={"metrics": metrics}), (1, 16, 16), classes=classes)


def test_measures_of_pairs_are_those_of_all_features_at_once(reference, digits):
    game = game_of("dcgan", "precision", "recall", "density", "coverage", "kid")
    found = scores(game, reference.with_features())
    real = reference.extractor.features(digits.images)
    fake = reference.extractor.features(sample_range(game, 0, 300))
    three, five = precision_recall(real, fake, 3), precision_recall(real, fake, 5)
    wanted = {"precision": three.precision, "recall": three.recall, "kid": kid(real, fake, subset_size=300).mean}
    wanted |= {"density": five.density, "coverage": five.coverage}
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-6)


def test_asking_for_more_changes_no_other_number(reference):
    plain = scores(game_of("dcgan"), reference)
    more = scores(game_of("dcgan", "precision", f"{HERE}:watched"), reference.with_features())
    assert {name: more[name] for name in plain} == plain
    assert more.keys() - plain.keys() == {"precision", "watched"}


def test_the_real_features_are_those_that_a_tally_keeps(reference, digits, monkeypatch):
    monkeypatch.setattr(tallies.kept_rows, "__defaults__", (50,))
    kept = Tally(reference.extractor, 1000, 50).extend(real_batches(digits, 1000)).features()
    some = Reference(**{**vars(reference), "count": 1000}).with_features().features
    torch.testing.assert_close(some, kept.to(some.dtype))


@pytest.mark.parametrize(("family", "classes"), [("dcgan", 10), ("cgan", 10)])
def test_a_function_gets_the_samples_as_bytes_their_classes_and_real_images(reference, digits, family, classes):
    SEEN.clear()
    game = game_of(family, f"{HERE}:watched", classes=classes)
    assert scores(game, reference)["watched"] == 0.25
    ((images, labels, real),) = SEEN
    assert images.dtype == real.dtype == torch.uint8
    samples = sample_range(game, 0, 300)
    assert (images.float() / 127.5 - 1 - samples.clamp(-1, 1)).abs().max() <= 1 / 255 + 1e-6
    assert (labels is None) if family == "dcgan" else labels.tolist() == [i % 10 for i in range(300)]
    known = {image.numpy().tobytes() for image in ((digits.images[:] + 1) * 127.5).round().to(torch.uint8)}
    assert real.shape == (300, 1, 16, 16)
    assert len({image.numpy().tobytes() for image in real} & known) > 290, "chosen ones, but for equal images"
    scores(game, reference)
    assert torch.equal(SEEN[1][2], real), "the same at each evaluation"


def test_of_points_a_function_gets_the_points():
    from gan_core import data
    from gan_core.experiment import Data
    from gan_core.measures import Metrics

    ring = data.load(Data(name="ring8"))
    words = ("data.name=ring8", "metrics.samples=40", f"metrics.measures={HERE}:watched")
    game = Game(Experiment.load({"family": "wgan"}).override(*words), (2,))
    SEEN.clear()
    scores(game, Reference.build(Metrics(), ring))
    ((images, _, real),) = SEEN
    assert torch.equal(images, sample_range(game, 0, 40))
    assert real.shape == (40, 2)


def test_what_a_function_draws_follows_from_the_seed_and_touches_nothing(reference):
    game = game_of("dcgan", f"{HERE}:spoiled", f"{HERE}:lottery")
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    found = scores(game, reference)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    assert scores(game, reference) == found
    assert found["spoiled"] == 3.0
    assert found["lottery"] > 1, "one function's changes are not the next one's"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("broken", "KeyError: 'digit 7'"),
        ("wordy", "it returns str, no number"),
        ("undefined", "it returns NaN, which ranks nothing"),
        ("many", "it returns Tensor, no number"),
    ],
)
def test_a_function_that_fails_is_named_with_the_reason(reference, name, why):
    with pytest.raises(MeasureError) as caught:
        scores(game_of("dcgan", f"{HERE}:{name}"), reference)
    assert (caught.value.measure, str(caught.value)) == (name, why)
    with pytest.raises(SettingsError) as early:
        try_own_measure("search.metric", f"{HERE}:{name}", game_of("dcgan").experiment.family, reference, 30)
    assert str(early.value).startswith(f"search.metric={HERE}:{name} on noise: {why}; nearest: ")


def test_the_trial_call_is_that_of_an_evaluation(reference):
    for family in ("dcgan", "cgan", "sgan"):
        SEEN.clear()
        try_own_measure(
            "search.metric", f"{HERE}:watched", game_of(family, classes=10).experiment.family, reference, 30
        )
        ((images, labels, real),) = SEEN
        assert images.shape == real.shape == (30, 1, 16, 16)
        assert (labels is not None) == (family == "cgan"), "sgan needs labels, but draws no class"


def test_what_is_no_function_of_three_is_refused():
    assert own_measure("search.metric", f"{HERE}:watched") is watched
    for name, wrong in (("of_two", r"takes \(images, real\)"), ("Dataset", "is no function"), ("HERE", "is no fun")):
        assert Dataset is not None
        with pytest.raises(SettingsError, match=rf"search.metric={HERE}:{name} {wrong}.*nearest: def {name}\(images, "):
            own_measure("search.metric", f"{HERE}:{name}")


def test_too_few_samples_or_an_extractor_without_classes_are_refused(reference):
    check_reference("search.metric", "inception_score", reference, 20)
    for name, samples, right in (("inception_score", 19, 20), ("precision", 3, 4), ("coverage", 5, 6)):
        with pytest.raises(SettingsError, match=f"search.metric={name} takes more.*nearest: metrics.samples={right}$"):
            check_reference("search.metric", name, reference, samples)
    assert module.FEWEST["recall"] == 4


def test_which_of_two_values_is_better():
    low, high = FID, Objective("my_score", "max")
    assert low.better(1.0, 2.0)
    assert high.better(2.0, 1.0)
    assert [low.best([3, 1, 2]), high.best([3, 1, 2]), high.best([])] == [1, 3, None]
    assert sorted([3.0, -1.0, 2.0], key=high.loss) == [3.0, 2.0, -1.0]
    assert (low.failure, high.failure) == (np.inf, -np.inf)
    assert (low.label, high.label, Objective("inception_score", "max").label) == ("FID", "my_score", "Inception Score")
