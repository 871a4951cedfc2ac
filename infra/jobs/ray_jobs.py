"""Ray Jobs: commands that a Ray cluster runs, submitted to the address of its dashboard.

Ray finds the token itself: RAY_AUTH_MODE=token with RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from infra.jobs.batch import POLL_SECONDS, RAY_STATES, BatchError, State
from infra.passwords import bare, masked, remember

ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_DASHBOARD_ADDRESS", "RAY_ADDRESS")
"""Environment variables that may hold the address, in the order of preference."""

STOP_SECONDS = "60"
"""From TERM to KILL. Ray's default of 3 s is too short to save a checkpoint and close the runs."""

START_SECONDS = 30
"""A cluster that has just started may take so long until it accepts jobs."""

_Answer = TypeVar("_Answer")


def address_from(given: str | None) -> str | None:
    """The given address, otherwise the environment's; None if there is none. Its password stays in the environment."""
    if given:
        os.environ[ADDRESSES[0]] = given
    found = next((found for name in ADDRESSES if (found := os.environ.get(name))), None)
    if found is None:
        return None
    remember(found)
    return bare(found)


class RayJobs:
    """The cluster at an address: http://HOST:8265, or HOST:6379 within its network. The address has no password: one
    that a proxy wants is taken from the environment's address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._client: Any = None

    def submit(self, text: str, job: str) -> str:
        """Starts a shell command on the cluster's head."""
        environment = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": STOP_SECONDS}}
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return self._asked(
                    lambda client: client.submit_job(entrypoint=text, submission_id=job, runtime_env=environment)
                )
            except BatchError as error:
                if "No available agent" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(POLL_SECONDS)

    def state(self, job: str) -> State:
        """What the cluster reports."""
        try:
            status = self._asked(lambda client: client.get_job_status(job))
        except BatchError as error:
            if "does not exist" in str(error) or "not found" in str(error):  # another cluster has the address now
                return "ended"
            raise
        return RAY_STATES.get(str(status.value), "ended")

    def follow(self, job: str) -> Iterator[str]:
        """The driver's output as it comes."""
        import asyncio

        pieces: AsyncIterator[str] = self._asked(lambda client: client.tail_job_logs(job))
        with asyncio.Runner() as runner:
            while True:
                try:
                    piece = runner.run(_next(pieces))
                except Exception as error:
                    raise BatchError(_line(error, self.address)) from None
                if piece is None:
                    return
                yield piece

    def stop(self, job: str) -> None:
        """Sends TERM to the driver, and KILL a minute later."""
        self._asked(lambda client: client.stop_job(job))

    def _asked(self, question: Callable[[Any], _Answer]) -> _Answer:
        try:
            if self._client is None:
                self._client = self._connected()
            return question(self._client)
        except Exception as error:  # Ray documents RuntimeError, but errors of requests and aiohttp come too
            raise BatchError(_line(error, self.address)) from None

    def _connected(self) -> Any:
        address = _with_credentials(self.address)
        # Ray prefers this variable to the address in a call.
        os.environ["RAY_API_SERVER_ADDRESS"] = address
        from ray.job_submission import JobSubmissionClient

        logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.WARNING)
        return JobSubmissionClient(address)


def _with_credentials(address: str) -> str:
    """The address with the user and password that the environment's address of the same cluster has."""
    known = (os.environ.get(name, "") for name in ADDRESSES)
    return next((given for given in known if bare(given) == address), address)


async def _next(pieces: AsyncIterator[str]) -> str | None:
    return await anext(pieces, None)


def _line(error: Exception, address: str) -> str:
    message = masked(" ".join(str(error).split()))
    if "Authentication" in message or "Unauthorized" in message or "Forbidden" in message:
        return (
            f"the Ray cluster at {address} refuses the token: {message[:200]};"
            " nearest: RAY_AUTH_MODE=token with RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH as the cluster's"
        )
    return f"the Ray cluster at {address}: {message[:300] or type(error).__name__}"
