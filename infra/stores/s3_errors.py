"""What boto3 raises, as errors of a store: one line each, told apart by what a person would do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions as boto

from infra.stores.protocol import NoPlaceError, NotThereError, RefusedError, StoreError, UnreachableError

BROKEN_OFF = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError)
"""An answer that did not come, or not whole: asking again may help."""

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
def told(where: str, endpoint: str) -> Iterator[None]:
    """Raises StoreError for whatever boto3 raises; `where` is what was asked for, `endpoint` who was asked."""
    try:
        yield
    except boto.ClientError as error:
        raise _answered(error, where) from None
    except _REFUSED as error:
        raise RefusedError(f"{where}: {_line(error)}") from None
    except BROKEN_OFF as error:
        raise UnreachableError(f"{where}: no answer from {endpoint}: {_line(error)}") from None
    except boto.BotoCoreError as error:
        raise StoreError(f"{where}: {_line(error)}") from None


def status(error: boto.ClientError) -> int:
    """The HTTP status of an answer."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code(error: boto.ClientError) -> str:
    """What S3 calls it."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _answered(error: boto.ClientError, where: str) -> StoreError:
    number, name = status(error), code(error)
    message = " ".join(str(error.response.get("Error", {}).get("Message", "")).split())
    told = f"{number} {name}" + (f", {message}" if message and message != name else "")
    if name == "NoSuchBucket":
        return NoPlaceError(f"there is no bucket {where.removeprefix('s3://').partition('/')[0]}")
    if number in (401, 403) or name in ("ExpiredToken", "InvalidToken"):
        return RefusedError(f"{where}: access denied ({told})")
    if number == 404:
        return NotThereError(f"there is no {where}")
    if number in (301, 307) or name in ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException"):
        return RefusedError(f"{where}: the bucket is in another region ({told})")
    if number >= 500 or name == "SlowDown":
        return UnreachableError(f"{where}: the store is in trouble ({told})")
    return StoreError(f"{where}: {told}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
