"""The same S3 for libraries that use pyarrow, such as Ray."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.client import Config


def filesystem(endpoint_url: str | None) -> Any:
    """A pyarrow file system with the endpoint and region that boto3 would use.

    It holds no credentials, because it is sent to other machines: pyarrow finds them on each.
    """
    from pyarrow.fs import S3FileSystem

    session = boto3.session.Session()
    given = session.client("s3", endpoint_url=endpoint_url).meta.endpoint_url
    aws = session.client("s3", config=Config(ignore_configured_endpoint_urls=True)).meta.endpoint_url
    scheme, _, host = given.rpartition("://")
    elsewhere = {} if given == aws else {"endpoint_override": host, "scheme": scheme}
    return S3FileSystem(region=session.region_name, **elsewhere)
