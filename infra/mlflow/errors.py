"""What MLflow's store raises: it is away and may be back, or it refuses for good what it was asked."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from infra.mlflow.store import client_of  # noqa: F401  sets what mlflow reads while it is imported
from infra.passwords import masked

# isort: split
import requests
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

STORE_ERRORS = (MlflowException, SQLAlchemyError, OSError, BotoCoreError, ClientError, Boto3Error)
"""What is raised if the store is away or refuses. Errors of the package requests are OSErrors; those of boto3 come from
artifacts that the client itself puts into S3."""

_LATER = (408, 425, 429, 499)
"""Statuses of the 4xx kind after which the same request may succeed."""
_SQLITE = ("SQLITE_READONLY", "SQLITE_ERROR", "SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_AUTH", "SQLITE_PERM")
"""SQLite's names for what waiting does not change: a missing right, a damaged file, a schema of another version."""
_FILES = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR)


def refuses(error: BaseException) -> bool:
    """Whether the store, or what keeps its files, will not take the same thing later either."""
    for cause in _causes(error):
        if isinstance(cause, PoolTimeoutError):
            return False
        if isinstance(cause, UnicodeError | NoCredentialsError):
            return True
        if isinstance(cause, DBAPIError):
            return str(getattr(cause.orig, "sqlite_errorname", "")).startswith(_SQLITE) or _refused(error)
        if isinstance(cause, ClientError):
            return _for_good(int(cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)))
        if isinstance(cause, requests.HTTPError) and cause.response is not None:
            return _for_good(cause.response.status_code)
        if isinstance(cause, OSError) and cause.errno in _FILES:
            return True
    return _refused(error)


def reason_of(error: BaseException) -> str:
    """The error in one line of at most 200 characters, without a password."""
    return masked(" ".join(str(error).split()))[:200]


def _refused(error: BaseException) -> bool:
    return isinstance(error, MlflowException) and _for_good(error.get_http_status_code())


def _for_good(status: int) -> bool:
    return 400 <= status < 500 and status not in _LATER


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
