"""Logs to a run in MLflow while it trains: rows of metrics, many in one call, and pictures.

The driver calls `prepare` once; the process that trains calls `opened_run`, logs through `MlflowTracker` and ends with
`close_run`. Equal calls may be repeated: a run is found again, a file replaced.
"""

import re
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from infra.mlflow.runs import close_run, opened_run, run_of, set_tags
from infra.mlflow.store import client_of, prepare
from infra.tracker import now
from infra.versions import version_tags

# infra.mlflow.store sets what mlflow reads while it is imported.
# isort: split
from mlflow.entities import Metric, Run
from mlflow.tracking.multimedia import compress_image_size
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES
from mlflow.utils.validation import MAX_METRICS_PER_BATCH
from PIL import Image

__all__ = ["MlflowTracker", "Row", "close_run", "opened_run", "prepare", "run_of", "version_tags"]

MARKER = "images_seen"  # the metric that every row has
PICTURES = "samples"
LATEST = "latest.png"
SYSTEM = "system/"
"""MLflow's pages show metrics with this prefix on a page of their own, against time."""

# The names that log_image makes. Older versions of MLflow wrote % for +.
_PICTURE = re.compile(
    rf"images/(?P<stem>{PICTURES}[+%]step[+%](?P<step>\d+)[+%]timestamp[+%]\d+[+%][0-9a-f-]{{36}})"
    r"([+%]compressed)?\.\w+"
)


@dataclass(frozen=True)
class Row:
    """The metrics of one step."""

    step: int
    time: int
    """When the values were measured, in milliseconds since 1970."""
    values: Mapping[str, float]


class MlflowTracker:
    """A `Tracker` of an open run, given by its id or as MLflow returned it.

    Every row must contain the metric `marker`, by which the recorded steps are found.
    """

    def __init__(self, uri: str, run: str | Run, marker: str = MARKER) -> None:
        self._client = client_of(uri)
        self._marker = marker
        found = self._client.get_run(run) if isinstance(run, str) else run
        self.run_id = str(found.info.run_id)
        self.began = int(found.info.start_time)
        """In milliseconds since 1970."""
        self._last_step = -1
        self._tags: dict[str, str] = {}
        self._pictures: _Pictures | None = None
        self._read(found)

    @property
    def last_step(self) -> int:
        return self._last_step

    def refresh(self) -> None:
        """Reads again which steps are recorded: other processes may have sent some."""
        self._read(self._client.get_run(self.run_id))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.rows([Row(step, now(), values)])

    def rows(self, rows: Sequence[Row], samples: Sequence[Row] = ()) -> None:
        """Records rows, sorted by step, in as few calls as MLflow's limits allow. Rows up to `last_step` are dropped.

        A row is never split between calls. `samples` are those of the machine, named `system/...`: their step is how
        many milliseconds after the run began they were taken, so that a sample that is sent again has the same one.
        """
        new = [row for row in rows if row.step > self._last_step]
        assert all(self._marker in row.values for row in new), f"a row without {self._marker}"
        timed = [replace(row, step=row.time - self.began) for row in samples]
        for batch in _batches([*timed, *new]):
            metrics = [Metric(name, value, row.time, row.step) for row in batch for name, value in row.values.items()]
            self._client.log_batch(self.run_id, metrics=metrics, synchronous=True)
            self._last_step = max([self._last_step, *(row.step for row in batch if self._marker in row.values)])

    def picture(self, step: int, png: bytes, time: int | None = None) -> None:
        """Records a picture in MLflow's image grid, and as `samples/step-STEP.png` and `samples/latest.png`. With its
        row's `time`, a picture that another process sends again has the same name."""
        if self._pictures is None:
            self._pictures = self._known_pictures()
        if step in self._pictures.whole:
            return
        unique = uuid.uuid5(uuid.NAMESPACE_OID, f"{self.run_id}/{step}")
        made = f"{PICTURES}+step+{step}+timestamp+{now() if time is None else time}+{unique}"
        stem = self._pictures.halves.setdefault(step, made)  # the next call uses it too if this one fails
        self._log_plainly(step, png)  # first: a step in the image grid is complete
        self._log_under(stem, png)
        self._pictures.whole.add(step)

    def tags(self, values: Mapping[str, str]) -> None:
        new = {key: value for key, value in values.items() if self._tags.get(key) != value}
        set_tags(self._client, self.run_id, new)
        self._tags |= new

    def flush(self) -> None:
        """Does nothing: every call sends at once."""

    def close(self) -> None:
        """Does nothing: no connection stays open."""

    def _read(self, run: Run) -> None:
        latest = {metric.key: int(metric.step) for metric in run.data.to_proto().metrics}
        self._last_step = latest.get(self._marker, -1)
        self._tags, self._pictures = dict(run.data.tags), None

    def _known_pictures(self) -> "_Pictures":
        """The pictures in the run. They are listed only if its tag says that there are some; this sets the tag."""
        if MLFLOW_LOGGED_IMAGES in self._tags:
            return _Pictures.of(file.path for file in self._client.list_artifacts(self.run_id, "images"))
        self._client.set_tag(self.run_id, MLFLOW_LOGGED_IMAGES, True, synchronous=True)
        self._tags[MLFLOW_LOGGED_IMAGES] = "True"
        return _Pictures(set(), {})

    def _log_plainly(self, step: int, png: bytes) -> None:
        """Under names that a person reads, and that stay the same."""
        with tempfile.TemporaryDirectory() as folder:
            for name in (f"step-{step:06d}.png", LATEST):
                Path(folder, name).write_bytes(png)
            self._client.log_artifacts(self.run_id, folder, PICTURES)

    def _log_under(self, stem: str, png: bytes) -> None:
        """Under the names that MLflow's image grid reads."""
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, f"{stem}.png").write_bytes(png)
            small = compress_image_size(Image.open(BytesIO(png)))
            small.save(Path(folder, f"{stem}{stem[len(PICTURES)]}compressed.webp"))
            self._client.log_artifacts(self.run_id, folder, "images")


@dataclass(frozen=True)
class _Pictures:
    """The pictures of a run. MLflow's `log_image` never overwrites: every call makes a new file stem."""

    whole: set[int]
    """Steps that have a picture and its thumbnail."""
    halves: dict[int, str]
    """Steps that have only one of the two, with its file stem."""

    @staticmethod
    def of(paths: Iterable[str]) -> "_Pictures":
        stems = Counter((int(m["step"]), m["stem"]) for m in map(_PICTURE.fullmatch, paths) if m)
        whole = {step for (step, _), files in stems.items() if files == 2}
        return _Pictures(whole, {step: stem for step, stem in stems if step not in whole})


def _batches(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Batches of whole rows, each as large as MLflow takes in one call."""
    batch: list[Row] = []
    for row in rows:
        if sum(len(one.values) for one in batch) + len(row.values) > MAX_METRICS_PER_BATCH:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
