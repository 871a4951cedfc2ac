"""Links to MLflow's pages, and what they show when they open. Imports no MLflow.

A view is a tag of the experiment, which the pages read if its key is in their address: columns, their order, the
filter, and the charts. MLflow writes the same tag when a view is shared by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

_CARDS = {"columns": 2, "cardHeight": 420}
VIEW = "mlflow.sharedViewState."
"""A view's tag, before its key."""
_MODEL_TRAINING = {"workflowType": "machine_learning"}
"""Without it, the pages open on traces of chats, whatever kind of experiment it is."""


@dataclass(frozen=True)
class DataSet:
    """What MLflow shows in a run's column of data sets."""

    name: str
    digest: str
    source: str
    """Where the data are, or came from."""
    about: Mapping[str, object]
    """Their size, shape and classes."""


@dataclass(frozen=True)
class View:
    """What the page of runs shows. A column is `metrics.NAME`, `params.NAME`, `tags.NAME` or `attributes.NAME`."""

    columns: Sequence[str]
    """From left to right. Those that no run has are left out."""
    order: str
    """The column by which runs are sorted."""
    widths: Mapping[str, int] = field(default_factory=dict)
    """Of columns, in pixels."""
    search: str = ""
    """Which runs are shown, in MLflow's search language."""
    section: str = "Metrics"
    """The heading of the charts."""
    curves: Sequence[str] = ()
    """Metrics that are drawn against their step, above all others."""
    images: str | None = None
    """The key of the images that are drawn beside them."""
    images_step: int = 0
    """The step of these images."""
    lowest_first: bool = True
    """Whether the lowest value is first, or the highest."""

    @property
    def tag(self) -> str:
        """The value of the view's tag."""
        columns = [_column_id(name) for name in self.columns]
        charts: list[Mapping[str, Any]] = [
            {"type": "LINE", "metricKey": name, "selectedMetricKeys": [name]} for name in self.curves
        ]
        if self.images is not None:
            charts.insert(
                1, {"type": "IMAGE", "imageKeys": [self.images], "step": self.images_step, "showRunParams": True}
            )
        section = {"uuid": "first", "name": self.section, "display": True, "isReordered": True, **_CARDS}
        state: dict[str, Any] = {
            "searchFilter": self.search,
            "orderByKey": _column_id(self.order),
            "orderByAsc": self.lowest_first,
            "selectedColumns": columns,
            "columnOrder": [_column_id("attributes.Run Name"), *columns],
            "columnWidths": {_column_id(name): width for name, width in self.widths.items()},
            "runsHiddenMode": "SHOW_ALL",
            "isAccordionReordered": True,
            "compareRunSections": [section],
            "compareRunCharts": [
                {"uuid": f"first-{number}", "metricSectionId": "first", "deleted": False, "isGenerated": False, **chart}
                for number, chart in enumerate(charts)
            ],
        }
        return json.dumps(state)


def runs_page(server: str, experiment_id: str, view: str, charts: bool = False) -> str:
    """The address of an experiment's runs as the view with this key shows them: a table, or charts."""
    mode = {"compareRunsMode": "CHART"} if charts else {}
    query = urlencode({**_MODEL_TRAINING, **mode, "viewStateShareKey": view})
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?{query}"


def run_page(server: str, experiment_id: str, run_id: str) -> str:
    """The address of a run's page."""
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}?{urlencode(_MODEL_TRAINING)}"


def picture_of(run_id: str, path: str) -> str:
    """An artifact of a run as a picture in a description: Markdown."""
    return f"![{path}](get-artifact?{urlencode({'path': path, 'run_uuid': run_id})})"


def _column_id(name: str) -> str:
    kind, _, key = name.partition(".")
    return f"{kind}.`{key}`"
