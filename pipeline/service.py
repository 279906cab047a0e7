"""How every service starts and ends: settings, logs, signals, exit status."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pipeline import logs
from pipeline.errors import ConfigError, PipelineError
from pipeline.settings import Settings

S = TypeVar("S", bound=Settings)


def run(name: str, settings_class: type[S], serve: Callable[[S, asyncio.Event], Awaitable[None]]) -> int:
    """Run `serve` until it ends; its event is set by SIGTERM or SIGINT, then it drains. Returns the exit status.

    0 after a drain; 2 when the environment or a server is set up wrongly (one line on standard error); 1 for anything
    else, so that the supervisor starts the process again.
    """
    try:
        settings = settings_class.load()
        logs.configure(name, settings.log_level)
        asyncio.run(_main(name, settings, serve))
    except Exception as error:
        return _fail(name, _cause(error))
    return 0


def refuse_arguments(name: str) -> int:
    """Say that the service takes none; the exit status, 0 for `--help`. Who asks for that must not have started it."""
    asked = not {"-h", "--help"}.isdisjoint(sys.argv[1:])
    said = f"{name}: takes no arguments, but variables: docs/operations.md lists them"
    print(said, file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2


def _fail(name: str, error: BaseException) -> int:
    if isinstance(error, ConfigError):
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201 - for a person, before or instead of any log
        return 2
    log = logs.get(name)
    if isinstance(error, PipelineError):
        log.error("service.stopped", error=str(error), error_class=type(error).__name__)
    else:  # unknown means stop
        log.error("service.crashed", error_class=type(error).__name__, exc_info=error)
    return 1


def _cause(error: BaseException) -> BaseException:
    """What a task group failed of: its first error."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _main(name: str, settings: S, serve: Callable[[S, asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    log = logs.get(name)
    log.info("service.started")
    await serve(settings, stop)
    log.info("service.drained")
