"""MLflow's model registry. Each version of a model is the artifacts of a run, with tags that describe it."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.mlflow.store import ask_server, client_of

# infra.mlflow.store sets what mlflow reads while it is imported.
# isort: split
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException


class NoRegistryError(ValueError):
    """The store has no model registry, or the registry does not answer."""


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a model."""

    model: str
    version: int
    source: str
    """The URI of the run's artifacts."""
    tags: Mapping[str, str]


def register(uri: str, model: str, run_id: str, tags: Mapping[str, str]) -> RegisteredVersion:
    """Makes the run's artifacts the newest version of the model, unless they are already, with equal tags.

    Raises:
        NoRegistryError: there is no registry, or it refuses to write.
    """
    client = client_of(uri)
    try:
        source = client.get_run(run_id).info.artifact_uri
        last = newest_version(uri, model)
        if last is not None and last.source == source and dict(last.tags) == dict(tags):
            return last
        if last is None:
            _create(uri, model)
        # No caller reads the version at once, so there is no reason to wait until MLflow calls it ready.
        made = client.create_model_version(model, source, run_id, tags=dict(tags), await_creation_for=0)
    except MlflowException as error:
        raise NoRegistryError(_one_line(error)) from error
    return _registered(made)


def newest_version(uri: str, model: str) -> RegisteredVersion | None:
    """The newest version of a model; None if the model does not exist or has no version.

    Raises:
        NoRegistryError: no registry answers.
    """
    if {"'", '"'} & set(model):
        return None
    try:
        found = client_of(uri).search_model_versions(f"name = '{model}'", order_by=["version_number DESC"])
    except MlflowException as error:
        raise NoRegistryError(_one_line(error)) from error
    same = [one for one in found if one.name == model]  # some databases ignore case
    return _registered(max(same, key=lambda one: int(one.version))) if same else None


def model_names(uri: str) -> list[str]:
    """The names of all models.

    Raises:
        NoRegistryError: no registry answers.
    """
    try:
        return sorted(model.name for model in client_of(uri).search_registered_models())
    except MlflowException as error:
        raise NoRegistryError(_one_line(error)) from error


def check_answers(uri: str) -> None:
    """Asks a server once. MLflow's own calls would be retried for minutes.

    Raises:
        NoRegistryError: no MLflow server answers.
    """
    if not uri.startswith(("http://", "https://")):
        return
    try:
        ask_server(uri, "Default")
    except ValueError as error:
        raise NoRegistryError(str(error)) from None


def read_text(uri: str, found: RegisteredVersion, path: str) -> str:
    """The text of a file in a version's artifacts.

    Raises:
        NoRegistryError: the version has no such file, or the file cannot be fetched.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            file = download_artifacts(artifact_uri=f"{found.source}/{path}", dst_path=folder, tracking_uri=uri)
            return Path(file).read_text()
        except (MlflowException, OSError) as error:
            reason = _one_line(error)
            raise NoRegistryError(f"version {found.version} of {found.model} has no {path}: {reason}") from error


def _create(uri: str, model: str) -> None:
    try:
        client_of(uri).create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _registered(version: ModelVersion) -> RegisteredVersion:
    assert version.source is not None
    return RegisteredVersion(version.name, int(version.version), version.source, dict(version.tags))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
