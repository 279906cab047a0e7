"""Logs: structured events with dotted names in the past tense; JSON, or coloured lines on a terminal.

Fields are ids, counts and durations. Row values, keys and secrets never become fields.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

Log = structlog.stdlib.BoundLogger


def configure(service: str, level: str) -> None:
    """Send all logs, also those of libraries, to standard error. Called once, at the start of the process."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    terminal = sys.stderr.isatty()
    renderer: Any = structlog.processors.JSONRenderer()
    if terminal:  # not by rich, which prints the values of variables, secrets among them, and takes seconds
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    formatting: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if not terminal:
        formatting.append(structlog.processors.format_exc_info)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*formatting, renderer])
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # Libraries are heard when something is wrong; their routine would drown ours, and botocore's may hold headers.
    for name in ("aiokafka", "botocore", "aiobotocore", "uvicorn", "asyncio", "google", "grpc", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(service=service)


def service() -> str:
    """The name that `configure` was called with; empty before."""
    return str(structlog.contextvars.get_contextvars().get("service", ""))


def get(name: str) -> Log:
    """A logger; `name` is for humans only, events carry their own names."""
    logger: Log = structlog.stdlib.get_logger(name)
    return logger
