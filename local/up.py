"""`python -m local up`: the stack in the foreground, until a signal or the end of one of its parts."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path

from local.leftovers import FolderInUseError
from local.process import PartError
from local.stack import Stack
from pipeline.errors import PipelineError


def up(folder: Path, *, partitions: int) -> int:
    """Run it; the exit status: 0 after a signal, 1 when a part failed, 2 when the folder is in use."""
    try:
        return asyncio.run(_up(folder, partitions))
    except FolderInUseError as error:
        print(f"local up: {error}", file=sys.stderr)
        return 2
    except (PartError, PipelineError, OSError) as error:
        print(f"local up: {error}", file=sys.stderr)
        return 1


async def _up(folder: Path, partitions: int) -> int:
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, asked_to_stop.set)
    stack = Stack(folder, say=_say, partitions=partitions)
    asked = asyncio.create_task(asked_to_stop.wait())
    starting = asyncio.create_task(stack.start())
    await asyncio.wait({asked, starting}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting
        return 0
    starting.result()  # a failed start stopped what it had started
    dying = asyncio.create_task(stack.died())
    await asyncio.wait({asked, dying}, return_when=asyncio.FIRST_COMPLETED)
    if dying.done():
        part = dying.result()
        print(
            f"local up: {part.name} ended by itself with status {part.process.exit_status}, log {part.log}:\n"
            f"{part.process.log_tail()}",
            file=sys.stderr,
        )
        await stack.stop()
        return 1
    dying.cancel()
    _say("Stopping")
    await stack.stop()
    return 0


def _say(line: str) -> None:
    print(line, flush=True)
