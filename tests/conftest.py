"""Fixtures for all tests: one embedded stack for the whole session, started when the first test asks for it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from local import jars
from local.kafka import find_java
from local.stack import Stack


def pytest_collection_finish(session: pytest.Session) -> None:
    """Download the broker before the first test: no test's timeout covers that."""
    needed = any("stack" in getattr(item, "fixturenames", ()) for item in session.items)
    if needed and not session.config.option.collectonly and find_java() and not jars.are_cached():
        asyncio.run(jars.fetch(print))


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """The stack of this session. `stack.environment` is what a service needs, less HEALTH_PORT.

    Its parts `postgres`, `kafka`, `aws` and `firestore` have `stop()`, `kill()` and `start()`: a test that uses them
    leaves them running. Tests share databases, topics, buckets and queue, so each makes names of its own.
    """
    # A crash of a server loses nothing without fsync, only a crash of the machine does.
    running = Stack(tmp_path_factory.mktemp("stack"), postgres_settings={"fsync": "off"})
    await running.start()
    yield running
    await running.stop()


@pytest.fixture(scope="session")
def pg15_bin() -> Path:
    """The programs of an installed PostgreSQL 15, for tests that need the oldest version that we support."""
    folder = Path("/usr/lib/postgresql/15/bin")
    if not folder.is_dir():
        assert not os.environ.get("CI"), "CI has PostgreSQL 15 and must use it"
        pytest.skip("PostgreSQL 15 is not installed")
    return folder
