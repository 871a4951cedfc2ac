"""What a person sees when MLflow's own pages of a search and of its trials open, without a click."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from rich.console import Console

from pipelines.search.command import search
from tests.pipelines.small_runs import created, named, small_search, tracked
from tests.servers import ROOT

SECONDS = 90
SCREENS = Path(os.environ.get("GANFLEET_ARTIFACTS") or ROOT / "ci-artifacts")
"""Where the screenshots are kept."""
BARE = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


@dataclass(frozen=True)
class Shown:
    """A finished search on the server."""

    url: str
    link: str
    """What the search printed."""
    parent: Run
    children: list[Run]

    @property
    def child(self) -> Run:
        return self.children[0]

    def page(self, run: Run, tab: str = "") -> str:
        about = f"{self.url}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        return f"{about}{tab}?workflowType=machine_learning"


@pytest.fixture(scope="module")
def shown(ray_cluster, tracking, tmp_path_factory) -> Shown:
    words = ["search.trials=3", "search.sampler=random", "search.scheduler=none", "metrics.extractor=pixels"]
    words += ["budget.rounds=300", "budget.log_every=50", "budget.eval_every=100", f"tracking.uri={tracking.url}"]
    experiment = small_search(tmp_path_factory.mktemp("pages"), ["wgan_gp"], "pages", *words, "family.n_critic=1")
    screen = io.StringIO()
    search(experiment, created(experiment), Console(file=screen, width=300))
    (link,) = re.findall(r"^curves +(http\S+)$", screen.getvalue(), re.MULTILINE)
    client = MlflowClient(tracking.url)
    return Shown(tracking.url, link, named(client, "pages"), tracked(client, kind="trial", search="pages"))


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("Chromium is not installed: apt-get install chromium fonts-dejavu-core")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=list(BARE))
        yield started
        started.close()


def test_the_search_is_tracked_through_the_server(shown):
    assert (shown.parent.info.status, shown.child.info.status) == ("FINISHED", "FINISHED")
    assert shown.child.data.tags["mlflow.parentRunId"] == shown.parent.info.run_id


LOADED = "[...document.querySelectorAll('img[src*=get-artifact]')].some(one => one.complete && one.naturalWidth > 0)"
FIRST_LOADED = "(one => one && one.complete && one.naturalWidth > 0)(document.querySelector('img[src*=get-artifact]'))"
CARD = "[data-testid='experiment-view-compare-runs-card']:has-text('{title}')"


@contextmanager
def opened(browser, name: str, address: str, height: int = 1080) -> Iterator[object]:
    """A page as it opens, in a browser that has never been there. A screenshot of it is kept."""
    context = browser.new_context(viewport={"width": 1920, "height": height})
    page = context.new_page()
    page.set_default_timeout(1000 * SECONDS)
    try:
        page.goto(address)
        yield page
    finally:
        SCREENS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENS / f"mlflow-{name}.png")
        context.close()


def written(metric: float) -> str:
    """The beginning of a number, as MLflow's table writes it before it cuts it."""
    return str(metric)[:5]


def test_the_table_shows_fid_state_and_settings_best_first(shown, browser):
    with opened(browser, "runs", shown.link) as page:
        for heading in ("metrics.`fid`", "metrics.`best_fid`", "tags.`ganfleet.state`", "family.name", "family.lr"):
            page.locator(f".ag-header-cell[col-id*='{heading}']").wait_for()
        fids = sorted(run.data.metrics["fid"] for run in shown.children)
        cells = page.locator("[role=gridcell][col-id='metrics.`fid`']")
        page.get_by_text(written(fids[0])).first.wait_for()
        order = sorted(
            (cell.bounding_box()["y"], cell.inner_text()) for cell in cells.all() if cell.inner_text() != "-"
        )
        assert [text[:5] for _, text in order] == [written(fid) for fid in fids]
        assert page.get_by_text("completed", exact=True).count() == 1 + len(fids)


def test_the_charts_show_every_trials_fid_and_samples(shown, browser):
    with opened(browser, "charts", f"{shown.link}&compareRunsMode=CHART") as page:
        card = page.locator(CARD.format(title="fid")).first
        lines = card.locator(".scatterlayer .trace:has(path.point)")
        lines.first.wait_for(state="attached")
        assert lines.count() >= len(shown.children)
        page.wait_for_function(LOADED)


@pytest.mark.parametrize("which", ["parent", "child"])
def test_a_runs_page_begins_with_its_fid_settings_and_samples(shown, browser, which):
    run = getattr(shown, which)
    with opened(browser, which, shown.page(run)) as page:
        told = run.data.tags["mlflow.note.content"]
        headline, settings = told.splitlines()[:2]
        assert "FID" in headline
        for text in (headline.strip("* "), settings):
            place = page.get_by_text(text).first.bounding_box()
            assert place["y"] < 1000, "it is in sight"
        page.wait_for_function(FIRST_LOADED)
        assert page.locator("img[src*=get-artifact]").first.bounding_box()["y"] < 950


@pytest.mark.parametrize(("which", "metric"), [("parent", "best_fid"), ("child", "fid")])
def test_a_runs_metrics_show_the_fid_curve_and_samples(shown, browser, which, metric):
    run = getattr(shown, which)
    points = MlflowClient(shown.url).get_metric_history(run.info.run_id, metric)
    with opened(browser, f"{which}-metrics", shown.page(run, "/model-metrics"), 2600) as page:  # all of it in sight
        drawn = page.locator(CARD.format(title=metric)).locator(".scatterlayer .trace path.point")
        drawn.first.wait_for(state="attached")
        assert drawn.count() == len(points)
        page.wait_for_function(LOADED)
