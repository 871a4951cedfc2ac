"""A search beside what "Are GANs Created Equal?" published: models, ranks, correlation, files, picture."""

import csv
import io
import json

import pytest
from rich.console import Console

from gan_core.measures import FID
from pipelines.launch._search_request import search_experiment
from pipelines.runs._folder import RunFolder
from pipelines.search._outcome import Outcome
from pipelines.search._study import published, study_table
from pipelines.search.confirmation.results import ConfirmedTrial, SeedResult
from pipelines.search.plots._published import draw_published
from pipelines.search.plots._style import families_of
from pipelines.search.report._published import print_published, write_published

CONFIG = """
families: [{name: gan, loss: minimax}, gan, wgan, wgan_gp, vae]
family: {net: infogan}
search: {compare: true, trials: 5}
"""
OURS = {"gan-minimax": 50.0, "gan-non_saturating": 40.0, "wgan": 10.0, "wgan_gp": 20.0, "vae": None}


def experiment(*words, config=CONFIG):
    return search_experiment([], ["name=x", *words], config)


def found(folder, *words, ours=OURS, config=CONFIG):
    """The table of a search whose best settings have these means over two seeds; None: both seeds are lost."""

    def confirmed(one, mean):
        values = [(None, "failed")] * 2 if mean is None else [(mean - 1, "completed"), (mean + 1, "completed")]
        runs = (SeedResult("x", seed, state, 9, value, value, None) for seed, (value, state) in enumerate(values))
        return ConfirmedTrial(one, tuple(runs), FID)

    outcomes = [Outcome(name, "completed", {"name": name}, 9, 9, 77.0, None, "x") for name in ours]
    again = [confirmed(one, mean) for one, mean in zip(outcomes, ours.values(), strict=True)]
    return study_table(folder, experiment(*words, config=config), outcomes, again)


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path)
    folder.measure.write_text(json.dumps({"extractor": "classifier"}))
    return folder


def test_the_study_has_eight_models_on_four_data_sets():
    assert set(published()) == {"mnist", "fashion_mnist", "cifar10", "celeba"}
    assert all(len(column) == 8 for column in published().values())
    assert all(column.keys() == published()["mnist"].keys() for column in published().values())


def test_ranks_and_spearmans_correlation_are_those_of_a_sum_of_squared_differences(folder):
    """Published on Fashion-MNIST: minimax 29.6, non-saturating 26.5, WGAN 21.5, WGAN-GP 24.5. Ours: 4, 3, 1, 2."""
    result = found(folder, "data.name=fashion_mnist", "data.image_size=28")
    rows = {row.model: row for row in result.rows}
    assert [row.model for row in result.rows] == ["wgan", "wgan_gp", "gan-non_saturating", "gan-minimax", "vae"]
    assert (rows["wgan"].mean, rows["wgan"].published, rows["wgan"].published_sd) == (10.0, 21.5, 1.6)
    assert (rows["vae"].mean, rows["vae"].rank, rows["vae"].published_rank) == (None, None, None)
    assert result.correlations == {"fashion_mnist": pytest.approx(1.0)}
    ours = {**OURS, "wgan": 45.0}  # ranks 4, 2, 3, 1 against 4, 3, 1, 2
    again = found(folder, "data.name=fashion_mnist", "data.image_size=28", ours=ours)
    assert again.correlations == {"fashion_mnist": pytest.approx(1 - 6 * (0 + 1 + 4 + 1) / (4 * 15))}


def test_other_data_are_ranked_against_each_column(folder):
    result = found(folder)
    assert result.published is None
    assert set(result.correlations) == set(published())
    assert all(row.published is None and row.published_rank is None for row in result.rows)
    assert any("no column of data.name=digits" in line for line in result.lines)
    assert draw_published(result, families_of(experiment())) is None


def test_the_extractor_is_named_and_that_only_ranks_compare(folder):
    said = " ".join(found(folder).lines)
    assert "features of classifier" in said
    assert "only ranks compare" in said


def test_too_few_models_have_no_correlation(folder):
    few = found(folder, ours={"gan-minimax": 3.0, "wgan": 4.0, "vae": None})
    assert few.correlations == {}
    assert "needs 3 models with confirmed settings, there are 2" in " ".join(few.lines)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG.replace("net: infogan", "latent: 9"),
        CONFIG.replace("compare: true", "compare: false"),
        CONFIG.replace("compare: true", "compare: true, metric: precision"),
    ],
)
def test_another_search_has_no_such_table(folder, config):
    assert found(folder, config=config) is None


def test_what_is_written_printed_and_drawn_says_the_same(folder):
    result = found(folder, "data.name=fashion_mnist", "data.image_size=28")
    numbers, text = write_published(folder, result)
    rows = list(csv.DictReader(numbers.read_text().splitlines()))
    assert rows[0]["model"] == "wgan"
    assert float(rows[0]["published"]) == 21.5
    assert (float(rows[0]["rank"]), float(rows[0]["published_rank"])) == (1, 1)
    assert "| wgan | 10.0 ± 1.4 | 21.5 ± 1.6 | 1 | 1 |" in text.read_text()
    assert "Spearman's rank correlation with the FIDs published of 4 models: Fashion-MNIST 1.00." in text.read_text()
    screen = io.StringIO()
    print_published(Console(file=screen, width=120), folder, result)
    assert "published, Fashion-MNIST" in screen.getvalue()
    assert "1.00" in screen.getvalue()
    sheet = draw_published(result, families_of(experiment()))
    drawn = " ".join(one.get_text() for one in sheet.axes[0].texts)
    assert "21.5 ± 1.6   wgan" in drawn
    assert len(sheet.axes[0].lines) == 4
