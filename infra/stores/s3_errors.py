"""boto3's errors as errors of a store: one line each, and one class for each remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions as boto
from s3transfer import exceptions as transfer

from infra.passwords import masked
from infra.stores.protocol import NoPlaceError, NotThereError, RefusedError, StoreError, UnreachableError

BROKEN_OFF = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError)
"""No answer came, or only a part of it. Asking again may help."""

_REFUSED = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.UnauthorizedSSOTokenError,
)


@contextmanager
def as_store_error(where: str, endpoint: str) -> Iterator[None]:
    """Raises errors of boto3 as StoreError. `where` is the key that was asked for, `endpoint` the server's address."""
    try:
        yield
    except boto.ClientError as error:
        raise _of_answer(error, where) from None
    except _REFUSED as error:
        raise RefusedError(f"{where}: {_line(error)}") from None
    except (*BROKEN_OFF, transfer.RetriesExceededError) as error:
        last = error.last_exception if isinstance(error, transfer.RetriesExceededError) else error
        raise UnreachableError(f"{where}: no answer from {masked(endpoint)}: {_line(last)}") from None
    except transfer.S3DownloadFailedError:  # a later part has another ETag than the first
        raise replaced(where) from None
    except (boto.BotoCoreError, transfer.S3ValidationError) as error:
        raise StoreError(f"{where}: {_line(error)}") from None


def replaced(where: str) -> StoreError:
    """The error of an object that another writer replaced while it was read."""
    return StoreError(f"{where} was replaced while it was read; once more")


def code(error: boto.ClientError) -> str:
    """S3's name of the error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _of_answer(error: boto.ClientError, where: str) -> StoreError:
    status, name = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)), code(error)
    message = " ".join(str(error.response.get("Error", {}).get("Message", "")).split())
    answer = f"{status} {name}" + (f", {message}" if message and message != name else "")
    if name == "NoSuchBucket":
        return NoPlaceError(f"there is no bucket {where.removeprefix('s3://').partition('/')[0]}")
    if status in (401, 403) or name in ("ExpiredToken", "InvalidToken"):
        return RefusedError(f"{where}: access denied ({answer})")
    if status == 404:
        return NotThereError(f"there is no {where}")
    if status in (301, 307) or name in ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException"):
        return RefusedError(f"{where}: the bucket is in another region ({answer})")
    if status >= 500 or name == "SlowDown":
        return UnreachableError(f"{where}: the store is in trouble ({answer})")
    return StoreError(f"{where}: {answer}")


def _line(error: Exception) -> str:
    return masked(" ".join(str(error).split()))[:300]
