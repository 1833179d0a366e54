"""The pages of a worker's web server: /metrics for Prometheus, /livez and /readyz for whoever supervises it."""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import faust
from faust.types.web import Request, Response, View

from pipeline.health import Reason
from pipeline.metrics import CONTENT_TYPE, Metrics

__all__ = ["Room", "add_pages"]


class Room:
    """How much room the lake's disk has, looked at beside the event loop: a disk that hangs must not stop it."""

    def __init__(self, lake: Path) -> None:
        """Look at nothing yet."""
        self._lake = lake
        self._looking: asyncio.Future[None] | None = None
        self.free: tuple[int, int] | None = None
        """Free and all bytes, as last seen."""

    def look(self) -> None:
        """Begin to look again, unless the last look has not come back yet."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        try:
            usage = await asyncio.to_thread(shutil.disk_usage, self._lake)
        except OSError:  # whoever writes to it says so
            self.free = None
        else:
            self.free = usage.free, usage.total


def add_pages(app: faust.App, metrics: Metrics, reasons: Callable[[], Sequence[Reason]], room: Room) -> None:
    """Add the pages to the app; call it in its loop."""
    room.look()

    @app.page("/livez")  # type: ignore[untyped-decorator]
    async def livez(web: View, _request: Request) -> Response:
        """Answer whether the process works at all: a rebalance or an outage of the brokers does not count."""
        return web.json({"live": True, "reasons": []})

    @app.page("/readyz")  # type: ignore[untyped-decorator]
    async def readyz(web: View, _request: Request) -> Response:
        """Answer whether every partition moves; 503 with the reasons where one does not."""
        found = reasons()
        body = {"ready": not found, "reasons": [asdict(reason) for reason in found]}
        return web.json(body, status=503 if found else 200)

    @app.page("/metrics")  # type: ignore[untyped-decorator]
    async def scrape(web: View, _request: Request) -> Response:
        """Answer a scrape; the room on the disk is that of the scrape before."""
        room.look()
        return web.bytes(metrics.exposition(), content_type=None, headers={"Content-Type": CONTENT_TYPE})
