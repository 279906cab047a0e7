"""What every service tells over HTTP: /healthz, /readyz, /metrics and /status.

Live means that the loop turned lately, and never asks a dependency: restarting a pod mends no database. Ready means
that the dependencies answer. Lag makes a service neither dead nor unready.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pipeline.errors import ConfigError, PipelineError
from pipeline.settings import Settings

Check = Callable[[], Awaitable[str | None]]
"""None when ready, else the reason in one line."""

LIVE_SECONDS = 60.0
"""A loop that has not turned for so long is stuck. Longer than any single call may take, its retries included."""


class Health:
    """The state behind the probes. The service's loop calls `turned` each time around."""

    def __init__(self, *, status: Callable[[], dict[str, Any]], ready: Check) -> None:
        self._status = status
        self._ready = ready
        self._turned_at = time.monotonic()
        self._refusal: str | None = None

    def turned(self) -> None:
        """The loop is alive."""
        self._turned_at = time.monotonic()

    async def refuse(self, reason: str, stop: asyncio.Event) -> None:
        """Do nothing and be unready for `reason` until `stop`: a restart mends it no more than waiting does, and only
        a process that runs can tell probes and alerts what a person has to do."""
        self._refusal = reason
        while not stop.is_set():
            self.turned()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LIVE_SECONDS / 10)

    def app(self, settings: Settings, title: str) -> FastAPI:
        """The application with the four common routes; services add their own."""
        app = FastAPI(title=title, docs_url=None, redoc_url=None, openapi_url=None)
        app.state.admin_api_key = settings.admin_api_key.get_secret_value() if settings.admin_api_key else None

        @app.get("/healthz")
        async def healthz(response: Response) -> dict[str, Any]:
            idle = time.monotonic() - self._turned_at
            if idle > LIVE_SECONDS:
                response.status_code = 503
            return {"live": idle <= LIVE_SECONDS, "seconds_since_loop_turned": round(idle, 3)}

        @app.get("/readyz")
        async def readyz(response: Response) -> dict[str, Any]:
            try:
                async with asyncio.timeout(5):
                    reason = self._refusal or await self._ready()
            except (PipelineError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
            if reason:
                response.status_code = 503
            return {"ready": reason is None, "reason": reason}

        @app.get("/metrics")
        async def metrics() -> Response:
            return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

        @app.get("/status")
        async def status() -> dict[str, Any]:
            return self._status()

        return app


def _authorize(request: Request) -> None:
    key = request.app.state.admin_api_key
    if not key:
        raise HTTPException(403, "ADMIN_API_KEY is not configured: this service takes no orders")
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), key.encode()):
        raise HTTPException(401, "Authorization: Bearer ADMIN_API_KEY is needed", {"WWW-Authenticate": "Bearer"})


admin_only = Depends(_authorize)
"""Guards every POST."""


@asynccontextmanager
async def serving(app: FastAPI, settings: Settings, default_port: int) -> AsyncIterator[None]:
    """Serve `app` on BIND_HOST and HEALTH_PORT while the block runs. Raises ConfigError when the port is taken."""
    port = settings.health_port or default_port
    config = uvicorn.Config(app, host=settings.bind_host, port=port, log_config=None, access_log=False, lifespan="off")
    try:
        socket = await asyncio.to_thread(config.bind_socket)
    except SystemExit:
        raise ConfigError(f"HEALTH_PORT is wrong: {settings.bind_host}:{port} is in use or not allowed") from None
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[socket]))
    try:
        yield
    finally:
        server.should_exit = True
        await task
        socket.close()


class _Server(uvicorn.Server):
    """Signals belong to the service, which drains; uvicorn would take them and stop at once."""

    def capture_signals(self) -> Any:
        from contextlib import nullcontext

        return nullcontext()
