"""MLflow's model registry. Each version of a model is a folder of a run's artifacts, with tags that describe it."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.mlflow.errors import STORE_ERRORS, reason_of, refuses
from infra.mlflow.store import ask_server, client_of

# infra.mlflow.store sets what mlflow reads while it is imported.
# isort: split
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException


class NoRegistryError(ValueError):
    """The store has no model registry, or the registry does not answer."""

    def __init__(self, reason: str, away: bool = False) -> None:
        super().__init__(reason)
        self.away = away
        """Whether it may answer later."""


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a model."""

    model: str
    version: int
    source: str
    """The URI of the folder; in earlier versions, of all the run's artifacts."""
    tags: Mapping[str, str]


MODEL = "model"
"""The folder of a model among the artifacts of its run."""


def register(
    uri: str, model: str, run_id: str, tags: Mapping[str, str], write: Callable[[Path], None]
) -> RegisteredVersion:
    """Makes the run's folder `model` the newest version of the model, unless it is already, with equal tags.

    `write` fills an empty folder with the version's files, which become those of the run's folder.

    Raises:
        NoRegistryError: there is no registry, or it refuses to write.
    """
    client = client_of(uri)
    try:
        source = f"{client.get_run(run_id).info.artifact_uri}/{MODEL}"
        last = newest_version(uri, model)
        if last is not None and last.source == source and dict(last.tags) == dict(tags):
            return last
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            client.log_artifacts(run_id, folder, MODEL)
        if last is None:
            _create(uri, model)
        # No caller reads the version at once, so there is no reason to wait until MLflow calls it ready.
        client.create_model_version(model, source, run_id, tags=dict(tags), await_creation_for=0)
        # MLflow's client repeats a request whose answer was lost: then there are two versions, and one is deleted.
        known = 0 if last is None else last.version
        same = [one for one in _versions(client, model) if one.source == source and dict(one.tags) == dict(tags)]
        made, *others = sorted((one for one in same if int(one.version) > known), key=lambda one: int(one.version))
        for other in others:
            client.delete_model_version(model, str(other.version))
    except STORE_ERRORS as error:
        raise _no_registry(error) from error
    return _registered(made)


def newest_version(uri: str, model: str) -> RegisteredVersion | None:
    """The newest version of a model; None if the model does not exist or has no version.

    Raises:
        NoRegistryError: no registry answers.
    """
    if {"'", '"'} & set(model):
        return None
    try:
        same = _versions(client_of(uri), model)
    except STORE_ERRORS as error:
        raise _no_registry(error) from error
    return _registered(max(same, key=lambda one: int(one.version))) if same else None


def _versions(client: MlflowClient, model: str) -> list[ModelVersion]:
    """The newest versions of a model."""
    found = client.search_model_versions(f"name = '{model}'", order_by=["version_number DESC"])
    return [one for one in found if one.name == model]  # some databases ignore case


def model_names(uri: str) -> list[str]:
    """The names of all models.

    Raises:
        NoRegistryError: no registry answers.
    """
    try:
        return sorted(model.name for model in client_of(uri).search_registered_models())
    except STORE_ERRORS as error:
        raise _no_registry(error) from error


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
        raise NoRegistryError(str(error), away=True) from None


def read_text(uri: str, found: RegisteredVersion, path: str) -> str:
    """The text of a file in a version's artifacts.

    Raises:
        NoRegistryError: the version has no such file, or the file cannot be fetched.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            file = download_artifacts(artifact_uri=f"{found.source}/{path}", dst_path=folder, tracking_uri=uri)
            return Path(file).read_text()
        except STORE_ERRORS as error:
            reason = reason_of(error)
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


def _no_registry(error: Exception) -> NoRegistryError:
    return NoRegistryError(reason_of(error), away=not refuses(error))
