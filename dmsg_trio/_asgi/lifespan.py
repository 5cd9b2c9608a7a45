"""The lifespan of an ASGI app: what it does before the first request and after the last one."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.typing import LifespanState
from hypercorn.utils import LifespanFailureError, LifespanTimeoutError
from starlette.types import ASGIApp

from dmsg_trio._errors import DmsgError
from dmsg_trio._net.nurseries import open_service_nursery

from .apps import App

logger = logging.getLogger(__name__)


@asynccontextmanager
async def open_lifespan(app: ASGIApp) -> AsyncIterator[LifespanState]:
    """Let an app start up, and shut down after the block; give what it leaves for its requests.

    Apps that know nothing of lifespans have none. `DmsgError` says that the app could not start.
    """
    config = Config()
    config.errorlog = logger
    lifespan = Lifespan(App(app), config, LifespanState({}))
    faults: list[str] = []

    async def live() -> None:
        try:
            await lifespan.handle_lifespan()
        except* LifespanFailureError as group:
            faults.append(_first_of(group))

    async with open_service_nursery() as nursery:
        nursery.start_soon(live)
        try:
            with suppress(trio.ClosedResourceError):  # it had ended by then
                await lifespan.wait_for_startup()
        except LifespanTimeoutError as error:
            raise DmsgError(f"the app did not start: {error}") from error
        if faults:
            raise DmsgError(f"the app did not start: {faults[0]}")
        try:
            yield lifespan.state
        finally:
            with trio.CancelScope(shield=True):
                await _shut_down(lifespan)
        if faults:
            logger.error("the app did not shut down well: %s", faults[0])


async def _shut_down(lifespan: Lifespan) -> None:
    try:
        with suppress(trio.ClosedResourceError):
            await lifespan.wait_for_shutdown()
    except LifespanTimeoutError:
        logger.exception("the app did not shut down in time")


def _first_of(group: BaseExceptionGroup[LifespanFailureError]) -> str:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else str(first)
