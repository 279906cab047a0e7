"""One stack for each folder: a lock, and the processes that an earlier stack may have left behind."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
from pathlib import Path

import psutil

from local.process import Process
from local.state import write_private


class FolderInUseError(Exception):
    """Another stack runs on the folder."""


class FolderLock:
    """Held while a stack runs; the kernel lets go of it when we die, however that happens."""

    def __init__(self, folder: Path) -> None:
        """Take it at once. Raises FolderInUseError."""
        self._descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 20, 0).decode().strip()
            os.close(self._descriptor)
            raise FolderInUseError(f"another stack (process {holder}) runs in {folder}") from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next stack in. May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def empty(folder: Path) -> None:
    """Make or empty the folder. Raises FolderInUseError when a stack runs there, OSError for somebody else's files."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FolderLock(folder)
    try:
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != "lock":
                entry.unlink()
    finally:
        lock.release()


class Pids:
    """`pids`: what we started, with start times, because process ids are used again."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "pids"
        self._known: dict[str, tuple[int, float, int]] = {}

    def add(self, name: str, process: Process) -> None:
        """Note it down as soon as it runs."""
        try:
            created = psutil.Process(process.pid).create_time()
        except psutil.NoSuchProcess:
            return
        self._known[name] = (process.pid, created, int(process.command.stop_signal))
        write_private(self._path, json.dumps(self._known) + "\n")

    def clear(self) -> None:
        """All have ended."""
        self._path.unlink(missing_ok=True)

    async def reap(self, *, timeout_seconds: float = 20) -> list[str]:
        """End what an earlier stack left, in good order if it can; the names of what was still there."""
        if not self._path.exists():
            return []
        left = {}
        for name, (pid, created, stop_signal) in json.loads(self._path.read_text()).items():
            try:
                process = psutil.Process(pid)
                if process.create_time() == created:
                    process.send_signal(signal.Signals(stop_signal))
                    left[name] = process
            except psutil.NoSuchProcess:
                continue
        _gone, alive = await asyncio.to_thread(psutil.wait_procs, list(left.values()), timeout=timeout_seconds)
        for process in alive:
            process.kill()
        await asyncio.to_thread(psutil.wait_procs, alive, timeout=timeout_seconds)
        self.clear()
        return sorted(left)
