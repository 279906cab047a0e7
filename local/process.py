"""One child process that writes a log, is stopped by its own signal, and can't outlive us."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

_LAUNCHER = Path(__file__).with_name("launch.py")


class PartError(Exception):
    """A part of the stack did not start, or died. The text is meant for a person and may end with its log's tail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run. `user` names whom to become when we are root; `environment` is added to ours."""

    argv: tuple[str, ...]
    log: Path
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    user: str | None = None


class Process:
    """A running `Command`. It leads a session of its own, so that Ctrl-C reaches us alone and we stop it in order."""

    def __init__(self, command: Command, child: asyncio.subprocess.Process) -> None:
        self.command = command
        self.expected_end = False
        """True once `stop` or `kill` was called: its end is no accident."""
        self._child = child

    @classmethod
    async def start(cls, command: Command) -> Process:
        """Start it; what it prints is appended to its log. Raises PartError when the program isn't there.

        The kernel ties the child to the thread that starts it: call this from a thread that lives as long as we do.
        """
        if shutil.which(command.argv[0]) is None:
            raise PartError(f"the program {command.argv[0]} is not there")
        with _open_log(command.log) as log:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(_LAUNCHER)),
                *(str(os.getpid()), str(int(command.stop_signal)), command.user or "-"),
                *command.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=command.folder,
                env={**os.environ, **command.environment},
                start_new_session=True,
            )
        return cls(command, child)

    @property
    def pid(self) -> int:
        """Its process id, also after its end."""
        return self._child.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; minus the signal's number when a signal ended it."""
        return self._child.returncode

    async def wait(self) -> int:
        """Until it ends; its exit status."""
        return await self._child.wait()

    async def stop(self, timeout_seconds: float = 30) -> None:
        """Ask it to end and wait; kill it when it takes longer. Nothing happens when it has ended."""
        self.expected_end = True
        self.signal(self.command.stop_signal)
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._child.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL, as a crash would do; returns when it is gone."""
        self.expected_end = True
        self.signal(signal.SIGKILL)
        await self._child.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send any signal, e.g. SIGSTOP and SIGCONT to let it hang for a while."""
        with suppress(ProcessLookupError):
            self._child.send_signal(number)

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of its log, for an error message."""
        try:
            text = self.command.log.read_bytes()[-20_000:].decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


def _open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
