"""The lifespan of an ASGI app: what it does before the first request and after the last one."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.typing import ASGISendEvent, LifespanState
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
    life = _Life(app)
    async with open_service_nursery() as nursery:
        nursery.start_soon(life.live)
        try:
            await life.start_up()
            try:
                yield life.state
            finally:
                await life.shut_down()
        finally:
            life.scope.cancel()


class _Life(Lifespan):
    """The one call of an app that lasts as long as it is served."""

    def __init__(self, app: ASGIApp) -> None:
        config = Config()
        config.errorlog = logger
        super().__init__(App(app), config, LifespanState({}))
        self._fault: str | None = None
        # Who serves may be cancelled: then the app still has answers to give, and to shut down.
        self.scope = trio.CancelScope(shield=True)

    async def live(self) -> None:
        with self.scope:
            try:
                await self.handle_lifespan()
            except* LifespanFailureError:
                pass  # noted already

    async def asgi_send(self, message: ASGISendEvent) -> None:
        if message["type"] in ("lifespan.startup.failed", "lifespan.shutdown.failed"):
            lines = str(message.get("message") or "it does not say why").splitlines()
            self._fault = lines[-1]
        await super().asgi_send(message)

    async def start_up(self) -> None:
        """Wait until the app is ready; `DmsgError` if it will not be."""
        try:
            with suppress(trio.ClosedResourceError):  # the call had ended by then
                await self.wait_for_startup()
        except LifespanTimeoutError as error:
            raise DmsgError(f"the app did not start: {error}") from error
        if self._fault:
            raise DmsgError(f"the app did not start: {self._fault}")

    async def shut_down(self) -> None:
        """Wait until the app has put all away; cancelled or not."""
        with trio.CancelScope(shield=True):
            try:
                with suppress(trio.ClosedResourceError):
                    await self.wait_for_shutdown()
            except LifespanTimeoutError:
                logger.exception("the app did not shut down in time")
        if self._fault:
            logger.error("the app did not shut down well: %s", self._fault)
