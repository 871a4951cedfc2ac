"""What a person sees: MLflow's own pages of a search and of one of its trials, in a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
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
    parent: Run
    child: Run

    def page(self, run: Run, tab: str) -> str:
        return f"{self.url}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/{tab}"


@pytest.fixture(scope="module")
def shown(ray_cluster, tracking, tmp_path_factory) -> Shown:
    words = ["search.trials=3", "search.sampler=random", "search.scheduler=none", "metrics.extractor=pixels"]
    words += ["budget.rounds=300", "budget.log_every=50", "budget.eval_every=100", f"tracking.uri={tracking.url}"]
    experiment = small_search(tmp_path_factory.mktemp("pages"), ["wgan_gp"], "pages", *words, "family.n_critic=1")
    search(experiment, created(experiment), Console(quiet=True))
    client = MlflowClient(tracking.url)
    return Shown(tracking.url, named(client, "pages"), tracked(client, kind="trial", search="pages")[0])


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
CARD = "[data-testid='experiment-view-compare-runs-card']:has-text('{title}')"


@pytest.mark.parametrize("which", ["parent", "child"])
def test_the_page_shows_the_fid_curve_and_the_samples(shown, browser, which):
    """Of the samples, as MLflow has it, those of the step that its slider is moved to."""
    run = getattr(shown, which)
    points = MlflowClient(shown.url).get_metric_history(run.info.run_id, "fid")
    page = browser.new_page(viewport={"width": 1500, "height": 2600})  # what is not in sight is not drawn
    page.set_default_timeout(1000 * SECONDS)
    try:
        page.goto(shown.page(run, "model-metrics"))
        drawn = page.locator(CARD.format(title="fid")).locator(".scatterlayer .trace path.point")
        drawn.first.wait_for(state="attached")
        assert drawn.count() == len(points)
        page.locator("[role=slider]").last.wait_for()
        movable = page.locator("[role=slider]:not([data-disabled])")
        if movable.count():  # more than one picture: none is shown until the slider is at one
            movable.last.focus()
            page.keyboard.press("ArrowRight")
        page.wait_for_function(LOADED)
        page.locator("img[src*=get-artifact]").first.scroll_into_view_if_needed()
    finally:
        SCREENS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENS / f"mlflow-{which}.png")
        page.close()
