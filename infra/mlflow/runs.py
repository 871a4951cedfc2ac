"""Runs in MLflow: opened, closed and tagged. Only `MlflowClient` is used, so there is no global state.

Calls may be repeated, from several processes too: a run is found again, a file is replaced.
"""

import hashlib
import json
import posixpath
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from infra.mlflow.pages import DataSet
from infra.mlflow.store import client_of

# infra.mlflow.store sets what mlflow reads while it is imported.
# isort: split
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Param, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH, MAX_TAG_VAL_LENGTH

CHANGED = "param_changed."

T = TypeVar("T")


def opened_run(
    uri: str,
    experiment_id: str,
    identity: Mapping[str, str],
    name: str,
    parent: str | None,
    params: Mapping[str, object],
    tags: Mapping[str, str],
    data: DataSet | None = None,
) -> Run:
    """Finds the active run whose tags equal all of `identity`, or creates it, and sets it to RUNNING.

    Returns the run as it was found, before these changes. MLflow's params never change: a value that differs from the
    recorded one becomes the tag `param_changed.NAME`. A value over MLflow's length limit is cut and ends in its digest.

    Raises:
        ValueError: an identity that MLflow's search language cannot express.
    """
    client = client_of(uri)
    wanted = {key: _fit(value, MAX_TAG_VAL_LENGTH) for key, value in identity.items()}
    run_tags = _fitted(tags) | wanted | ({MLFLOW_PARENT_RUN_ID: parent} if parent else {})
    run = _find(client, experiment_id, wanted)
    if run is None:
        client.create_run(experiment_id, tags=run_tags, run_name=name)
        run = _first(client, experiment_id, wanted)
    else:
        recorded = run.data.tags
        set_tags(client, run.info.run_id, {key: value for key, value in run_tags.items() if recorded.get(key) != value})
        if run.info.status != "RUNNING":
            client.update_run(run.info.run_id, status="RUNNING")
    _log_params(client, run, params)
    if data is not None and not (run.inputs and run.inputs.dataset_inputs):
        _log_data(client, run.info.run_id, data)
    return run


def run_of(uri: str, experiment_id: str, identity: Mapping[str, str]) -> str | None:
    """The id of the active run whose tags equal all of `identity`; None if there is none. Changes nothing."""
    run = _find(client_of(uri), experiment_id, identity)
    return None if run is None else str(run.info.run_id)


def close_run(
    uri: str,
    run_id: str,
    status: Literal["FINISHED", "FAILED", "KILLED"],
    tags: Mapping[str, str],
    artifacts: Mapping[str, Path],
) -> None:
    """Uploads the artifacts, sets the tags, ends the run.

    `artifacts` maps a path in the run to a local file or folder. Files with the same path are replaced. A file of an
    earlier upload stays, even if the folder no longer has it.

    Raises:
        ValueError: a local file is missing; the run stays as it was.
    """
    for name, path in artifacts.items():
        if not path.exists():
            raise ValueError(f"artifact {name!r} of run {run_id}: {path} does not exist")
    client = client_of(uri)
    for name, path in artifacts.items():
        _upload(client, run_id, name, path)
    set_tags(client, run_id, tags)
    client.set_terminated(run_id, status)


def _first(client: MlflowClient, experiment_id: str, identity: Mapping[str, str]) -> Run:
    """The run that was just created. MLflow's client repeats a request whose answer was lost: then there are two, and
    one of them is deleted."""
    first, *others = _all(client, experiment_id, identity)
    for other in others:
        if not other.data.metrics:
            client.delete_run(other.info.run_id)
    return first


def _find(client: MlflowClient, experiment_id: str, identity: Mapping[str, str]) -> Run | None:
    return next(iter(_all(client, experiment_id, identity)), None)


def _all(client: MlflowClient, experiment_id: str, identity: Mapping[str, str]) -> list[Run]:
    """The active runs whose tags equal all of `identity`, the oldest first."""
    assert identity
    query = " and ".join(f"tags.`{key}` = {_quoted(value)}" for key, value in identity.items())
    runs = client.search_runs([experiment_id], query, order_by=["attributes.start_time ASC"], max_results=100)
    # Some databases ignore case when they compare.
    return [run for run in runs if all(run.data.tags[key] == value for key, value in identity.items())]


def _quoted(value: str) -> str:
    quote = '"' if "'" in value else "'"
    if quote in value:
        raise ValueError(f"{value!r} cannot be searched for in MLflow: it has both kinds of quotes")
    return f"{quote}{value}{quote}"


def _log_data(client: MlflowClient, run_id: str, data: DataSet) -> None:
    # The package mlflow.data would be imported for the same three strings.
    source = json.dumps({"uri": data.source})
    found = Dataset(data.name, data.digest, "ganfleet", source, profile=json.dumps(dict(data.about)))
    client.log_inputs(run_id, [DatasetInput(found, [InputTag(MLFLOW_DATASET_CONTEXT, "training")])])


def _log_params(client: MlflowClient, run: Run, params: Mapping[str, object]) -> None:
    run_id, recorded, tags = run.info.run_id, run.data.params, run.data.tags
    values = {name: _fit(str(value), MAX_PARAM_VAL_LENGTH) for name, value in params.items()}
    for part in _batches([Param(name, value) for name, value in values.items() if name not in recorded]):
        client.log_batch(run_id, params=part, synchronous=True)
    changed = {name for name, value in values.items() if recorded.get(name, value) != value}
    notes = {CHANGED + name: values[name] for name in changed}
    set_tags(client, run_id, {name: value for name, value in notes.items() if tags.get(name) != value})
    for name in values.keys() - changed:
        if CHANGED + name in tags:
            client.delete_tag(run_id, CHANGED + name)


def set_tags(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    """Sets these tags, their values cut to MLflow's length. Makes no call if there are none."""
    for part in _batches([RunTag(key, value) for key, value in _fitted(tags).items()]):
        client.log_batch(run_id, tags=part, synchronous=True)


def _fitted(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: _fit(value, MAX_TAG_VAL_LENGTH) for key, value in tags.items()}


def _fit(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    end = f"... sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    return text[: limit - len(end)] + end


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), MAX_PARAMS_TAGS_PER_BATCH):
        yield items[start : start + MAX_PARAMS_TAGS_PER_BATCH]


def _upload(client: MlflowClient, run_id: str, name: str, path: Path) -> None:
    if path.is_dir():
        client.log_artifacts(run_id, str(path), name)
        return
    folder, file = posixpath.split(name)
    if path.name == file:
        client.log_artifact(run_id, str(path), folder or None)
        return
    with tempfile.TemporaryDirectory() as aside:
        client.log_artifact(run_id, shutil.copy(path, Path(aside, file)), folder or None)
