"""The pipeline's services as child processes: started again when they die, as Kubernetes would do."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from local import ports
from local.process import Command, Process

SERVICES = ("streamer", "processor", "syncer", "cleaner")

_AGAIN_SECONDS = 1.0
_ROOT = Path(__file__).resolve().parent.parent


_ARGUMENTS = {"cleaner": ("database", "cleaner")}  # of `python -m`, where they aren't the service's name


class Service:
    """One service: `python -m NAME`, configured by the environment alone."""

    def __init__(self, name: str, environment: Mapping[str, str], port: int, log: Path) -> None:
        self.name = name
        self.port = port
        self.log = log
        self.restarts = 0
        self._environment = {**environment, "HEALTH_PORT": str(port), "PYTHONPATH": str(_ROOT)}
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """Where its probes answer."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the process that runs now, or ran last."""
        assert self._process is not None
        return self._process.pid

    async def start(self, **extra: str) -> Process:
        """Start it once; `extra` is added to its environment."""
        self._process = await Process.start(
            Command(
                argv=(sys.executable, "-m", *_ARGUMENTS.get(self.name, (self.name,))),
                log=self.log,
                folder=self.log.parent,
                environment={**self._environment, **extra},
            )
        )
        return self._process

    async def keep_running(self, say: Callable[[str], None]) -> None:
        """Start it again whenever it ends by itself, for ever."""
        assert self._process is not None
        while True:
            status = await self._process.wait()
            if self._process.expected_end:
                return
            self.restarts += 1
            say(f"{self.name} ended with status {status}: started again (log {self.log})")
            await asyncio.sleep(_AGAIN_SECONDS)
            await self.start()

    def kill(self) -> None:
        """SIGKILL, as a crash would do; `keep_running` starts it again."""
        assert self._process is not None
        self._process.signal(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM, and wait for the drain; the exit status."""
        assert self._process is not None
        await self._process.stop(timeout_seconds=60)
        return self._process.exit_status or 0


class Services:
    """All services on one stack."""

    def __init__(self, folder: Path, environment: Mapping[str, str], names: Sequence[str] = SERVICES) -> None:
        """`folder` gets `logs/NAME.log`; `environment` is the stack's."""
        chosen = ports.choose(tuple(names), {})
        logs = folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self.all = {name: Service(name, environment, chosen[name], logs / f"{name}.log") for name in names}
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self, say: Callable[[str], None] = lambda _line: None) -> None:
        """Start them all and keep them running."""
        for service in self.all.values():
            await service.start()
            self._keepers.append(asyncio.create_task(service.keep_running(say)))

    async def stop(self) -> dict[str, int]:
        """Stop them all at once; their exit statuses."""
        for keeper in self._keepers:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper
        statuses = await asyncio.gather(*(service.stop() for service in self.all.values()))
        return dict(zip(self.all, statuses, strict=True))
