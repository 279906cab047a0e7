"""What every part of the embedded stack has in common: a folder, a process, a way to tell that it is ready."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from local.process import Command, PartError, Process

_ASK_AGAIN_SECONDS = 0.05


class Part(ABC):
    """A server of the stack. Can be stopped, or killed, and started again on the same folder and port.

    Subclasses say how to prepare, what to run, and when it is ready.
    """

    name: ClassVar[str]
    """For a person, e.g. `PostgreSQL`."""
    ready_timeout_seconds: ClassVar[float] = 60

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.version = ""
        """Known once it has started."""
        self.on_start: Callable[[Part, Process], None] | None = None
        """Called as soon as the server runs, before it is ready."""
        self._process: Process | None = None

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self.folder / "log"

    @property
    def process(self) -> Process:
        """The running server, or the one that ran last. Raises PartError before the first start."""
        if self._process is None:
            raise PartError(f"{self.name} was not started")
        return self._process

    async def start(self) -> None:
        """Returns when it answers. Raises PartError when it does not, or runs already."""
        if self._process is not None and self._process.exit_status is None:
            raise PartError(f"{self.name} runs already")
        self.folder.mkdir(parents=True, exist_ok=True)
        await self.prepare()
        self._process = await Process.start(self.command())
        try:
            if self.on_start:
                self.on_start(self, self._process)
            await self._until_ready(self._process)
            await self.finish()
        except BaseException:
            await self._process.kill()
            raise

    async def stop(self) -> None:
        """In good order: what it holds is on disk afterwards. Nothing happens when it does not run."""
        if self._process is not None:
            await self._process.stop()

    async def kill(self) -> None:
        """As a crash would: without a word."""
        await self.process.kill()

    async def prepare(self) -> None:  # noqa: B027 - many have nothing to prepare
        """What has to be on disk before the server starts; repeated at every start."""

    @abstractmethod
    def command(self) -> Command:
        """The server's command line."""

    @abstractmethod
    async def is_ready(self) -> bool:
        """Whether it answers by now. An OSError means no."""

    async def finish(self) -> None:  # noqa: B027 - many have nothing to finish
        """What has to be done once the server answers; repeated at every start."""

    async def _until_ready(self, process: Process) -> None:
        try:
            async with asyncio.timeout(self.ready_timeout_seconds):
                while not await self._answers():
                    if process.exit_status is not None:
                        raise PartError(f"{self.name} ended at its start, log {self.log}:\n{process.log_tail()}")
                    await asyncio.sleep(_ASK_AGAIN_SECONDS)
        except TimeoutError:
            raise PartError(
                f"{self.name} does not answer after {self.ready_timeout_seconds:.0f} s, log {self.log}:\n"
                f"{process.log_tail()}"
            ) from None

    async def _answers(self) -> bool:
        try:
            return await self.is_ready()
        except OSError:
            return False


async def accepts_connections(port: int) -> bool:
    """Whether something listens on this port of the loopback interface. Raises OSError when nothing does."""
    _reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()
    return True


async def run_tool(command: Command, *, name: str) -> None:
    """Run a program to its end. Raises PartError, with the tail of its log, when it fails."""
    process = await Process.start(command)
    try:
        status = await process.wait()
    except BaseException:
        await process.kill()
        raise
    if status != 0:
        raise PartError(f"{name} failed with status {status}, log {command.log}:\n{process.log_tail()}")
