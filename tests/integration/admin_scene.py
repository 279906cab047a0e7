"""The scene of the admin's tests: the syncer's scene, the application on its ledger, a program and people in front."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from admin import passwords
from admin.identity import Role
from admin.ledger import users
from admin.limits import RateLimit
from admin.pipeline import application
from admin.settings import AdminSettings
from database.ledger import connected, open_pool
from local.stack import Stack
from pipeline.gzip import member
from pipeline.health import Health
from pipeline.s3 import digest
from tests.integration.syncer_scene import HOUR, ROOT, Scene, open_scene

KEY = "the-admin-key-of-this-test"
PASSWORD = "correct horse battery"
BASE = "http://admin.test"


class AdminScene:
    """See the module's text. Made by `open_admin`."""

    def __init__(self, scene: Scene, settings: AdminSettings, app: FastAPI, health: Health) -> None:
        self.scene = scene
        self.settings = settings
        self.app = app
        self.health = health

    def http(self, **headers: str) -> httpx.AsyncClient:
        """Somebody without key and session."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers, timeout=30)

    def api(self) -> httpx.AsyncClient:
        """A program with the key."""
        return self.http(authorization=f"Bearer {KEY}")

    async def person(self, name: str = "", role: Role = Role.ADMIN) -> Person:
        """Somebody with a session."""
        name = name or f"{role.value}-{uuid.uuid4().hex[:6]}"
        hashed = await passwords.hashed(PASSWORD)
        async with open_pool(self.scene.dsn, max_size=1) as pool, connected(pool) as connection:
            await users.put(connection, name, role, hashed)
        self.app.state.login_limit = RateLimit()
        http = self.http()
        answer = await http.post("/login", data={"name": name, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        page = (await http.get("/clients")).text
        token = page.partition('name="form-token" content="')[2].partition('"')[0]
        return Person(name, http, token)

    async def audit(self) -> list[dict[str, Any]]:
        """All entries of the audit log, newest first."""
        async with self.api() as api:
            answer = await api.get("/api/v1/audit", params={"limit": 200})
        return list(answer.json()["items"])

    async def quarantine(self, *records: dict[str, Any]) -> int:
        """An object in quarantine with these records; its id in the ledger."""
        lines = [
            json.dumps({"client_id": None, "site_id": None, "url": None, **record}, separators=(",", ":"))
            for record in records
        ]
        body = member("\n".join([*lines, ""]).encode())
        chunk = uuid.uuid4()
        key = f"quarantine/{chunk}.ndjson.gz"
        await self.scene.processed.put_new(key, body, sha256=digest(body), metadata={})
        position = f"00000001-{uuid.uuid4().int % 16**15:016X}-{0:020d}"
        await self.scene.execute(
            "INSERT INTO pipeline.chunks (id, topic, partition, generation, first_offset, next_offset, first_position,"
            " last_position) VALUES (%s, 'events.raw', 1, 1, 0, 1, %s, %s)",
            chunk,
            position,
            position,
        )
        ((number,),) = await self.scene.execute(
            "INSERT INTO pipeline.processed_objects (chunk_id, kind, client_id, hour, bucket, key, events, bytes,"
            " sha256, privacy_level, policy_version, min_commit_time, max_commit_time)"
            " VALUES (%s, 'quarantine', '', %s, %s, %s, %s, %s, '', '', '', %s, %s) RETURNING id",
            chunk,
            HOUR,
            self.scene.processed.bucket,
            key,
            len(records),
            len(body),
            HOUR,
            HOUR,
        )
        return int(number)


class Person:
    """A browser with a session, less its window."""

    def __init__(self, name: str, http: httpx.AsyncClient, token: str) -> None:
        self.name = name
        self.http = http
        self.token = token

    async def submit(self, path: str, **fields: Any) -> httpx.Response:
        """Send a form as its page would."""
        return await self.http.post(path, data={"form_token": self.token, **fields})


async def command(scene: Scene, *arguments: str, entered: str = "", **environment: str) -> tuple[int, str, str]:
    """`python -m admin ...`: status, output, errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "admin", *arguments),
        cwd=ROOT,
        env={**os.environ, **scene.environment, **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(entered.encode())
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


@asynccontextmanager
async def open_admin(stack: Stack, **changes: Any) -> AsyncIterator[AdminScene]:
    """The application in this process, on a ledger of its own. `changes` to its settings by field name."""
    async with open_scene(stack) as scene:
        values = {**{name.lower(): value for name, value in scene.environment.items()}, "admin_api_key": KEY, **changes}
        settings = AdminSettings(**values)
        stop = asyncio.Event()
        async with application(settings, stop) as (app, health):
            yield AdminScene(scene, settings, app, health)
