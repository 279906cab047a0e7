"""Fixtures for all tests: one embedded stack for the whole session, started when the first test asks for it.

Where a part is missing, a smaller one takes its place or tests are skipped, and the run's last lines say so; in CI
nothing may be missing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from local import jars
from local.firestore import find_jar
from local.kafka import find_java
from local.stack import Stack

PG15_BIN = Path("/usr/lib/postgresql/15/bin")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Download the broker before the first test: no test's timeout covers that."""
    needed = any("stack" in getattr(item, "fixturenames", ()) for item in session.items)
    if needed and not session.config.option.collectonly and find_java() and not jars.are_cached():
        with nullcontext() if os.environ.get("CI") else suppress(jars.DownloadError):
            asyncio.run(jars.fetch(print))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line about what this machine lacks."""
    from tests.browser import chromium  # selenium takes its time: not before each run
    from tests.ops import prometheus

    there = {
        "Apache Kafka (Java 17, Maven)": has_kafka(),
        "the Firestore emulator": bool(find_jar() and find_java()),
        "PostgreSQL 15": PG15_BIN.is_dir(),
        "Chromium": bool(chromium.find()),
        "Prometheus": bool(prometheus.find("promtool")),
    }
    if missing := [name for name, found in there.items() if not found]:
        terminalreporter.write_line(f"Not tested here, for want of it: {', '.join(missing)}")


def has_kafka() -> bool:
    """Whether the stack's broker is the real one."""
    return bool(find_java() and (jars.are_cached() or jars.find_maven()))


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """The stack of this session. `stack.environment` is what a service needs, less HEALTH_PORT.

    Its parts `postgres`, `kafka`, `aws` and `firestore` have `stop()`, `kill()` and `start()`: a test that uses them
    leaves them running. Tests share databases, topics, buckets and queue, so each makes names of its own.
    """
    # A crash of a server loses nothing without fsync, only a crash of the machine does.
    assert has_kafka() or not os.environ.get("CI"), "CI has Java 17 and Maven and must use Apache Kafka"
    running = Stack(tmp_path_factory.mktemp("stack"), postgres_settings={"fsync": "off"})
    await running.start()
    yield running
    await running.stop()


@pytest.fixture(scope="session")
def pg15_bin() -> Path:
    """The programs of an installed PostgreSQL 15, for tests that need the oldest version that we support."""
    if not PG15_BIN.is_dir():
        assert not os.environ.get("CI"), "CI has PostgreSQL 15 and must use it"
        pytest.skip("PostgreSQL 15 is not installed")
    return PG15_BIN
