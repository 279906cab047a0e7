"""One contract, three stores: memory, PostgreSQL, Firestore (Google's emulator)."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any

import psycopg
import pytest
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter
from psycopg.types.json import Jsonb

from local.stack import Stack
from pipeline.clients import (
    Client,
    ClientChangedError,
    ClientId,
    ClientStore,
    Domain,
    PrivacyLevel,
    PseudonymKey,
    SyncReport,
    UnreadableClient,
)
from pipeline.directory import ClientDirectory
from pipeline.errors import ConfigError, PermanentError, TransientError
from pipeline.stores import open_store
from pipeline.stores.memory import MemoryClientStore
from tests.faults import Proxy, proxy_to
from tests.integration.streamer_scene import eventually

_SYNC_TIMES = ("last_sync_at", "last_sync_succeeded_at", "last_sync_complete_through")
JANUARY = datetime(2026, 1, 1, tzinfo=UTC)


class Bench:
    """A store under test, and a way in beside the port: another tool's writes, and the history as stored."""

    store: ClientStore

    async def write_raw(self, client_id: str, document: dict[str, Any]) -> None:
        raise NotImplementedError

    async def write_index(self, client_id: str, host: str, valid_from: datetime) -> None:
        raise NotImplementedError

    async def changes(self, client_id: str) -> list[dict[str, Any]]:
        raise NotImplementedError

    async def sync(self, client_id: str) -> dict[str, Any]:
        """The stored members about deliveries."""
        raise NotImplementedError

    @asynccontextmanager
    async def proxied(self) -> AsyncIterator[tuple[ClientStore, Proxy]]:
        """The same store once more, through a proxy."""
        raise NotImplementedError
        yield


class MemoryBench(Bench):
    def __init__(self) -> None:
        self.memory = MemoryClientStore()
        self.store = self.memory

    async def write_raw(self, client_id: str, document: dict[str, Any]) -> None:
        self.memory.write_raw(client_id, document)

    async def write_index(self, client_id: str, host: str, valid_from: datetime) -> None:
        self.memory.write_index(client_id, host, valid_from)

    async def changes(self, client_id: str) -> list[dict[str, Any]]:
        return [change.to_document() for change in self.memory.changes if change.client_id == client_id]

    async def sync(self, client_id: str) -> dict[str, Any]:
        return self.memory._documents[client_id]


class PostgresBench(Bench):
    def __init__(self, store: ClientStore, connection: psycopg.AsyncConnection[Any]) -> None:
        self.store = store
        self.connection = connection

    async def write_raw(self, client_id: str, document: dict[str, Any]) -> None:
        await self.connection.execute(
            "INSERT INTO pipeline.clients (client_id, document) VALUES (%s, %s)"
            " ON CONFLICT (client_id) DO UPDATE SET document = excluded.document",
            (client_id, Jsonb(document)),
        )

    async def write_index(self, client_id: str, host: str, valid_from: datetime) -> None:
        await self.connection.execute(
            "INSERT INTO pipeline.domain_index (client_id, host, valid_from) VALUES (%s, %s, %s)",
            (client_id, host, valid_from),
        )

    async def changes(self, client_id: str) -> list[dict[str, Any]]:
        cursor = await self.connection.execute(
            "SELECT document FROM pipeline.configuration_changes WHERE client_id = %s ORDER BY id", (client_id,)
        )
        return [row[0] for row in await cursor.fetchall()]

    async def sync(self, client_id: str) -> dict[str, Any]:
        query = "SELECT sync FROM pipeline.clients WHERE client_id = %s"
        found: Any = await (await self.connection.execute(query, (client_id,))).fetchone()
        return {
            name: datetime.fromisoformat(value) if value and name in _SYNC_TIMES else value
            for name, value in found[0].items()
        }

    @asynccontextmanager
    async def proxied(self) -> AsyncIterator[tuple[ClientStore, Proxy]]:
        info = self.connection.info
        async with proxy_to(info.port) as proxy:
            dsn = psycopg.conninfo.make_conninfo(info.dsn, password=info.password, port=proxy.port)
            store = await open_store(kind="postgres", project="", dsn=dsn)
            yield store, proxy
            await store.close()


class FirestoreBench(Bench):
    def __init__(self, store: ClientStore, client: firestore.AsyncClient) -> None:
        self.store = store
        self.client = client

    async def write_raw(self, client_id: str, document: dict[str, Any]) -> None:
        stamped = {**document, "updated_at": firestore.SERVER_TIMESTAMP}
        await self.client.collection("clients").document(client_id).set(stamped)

    async def write_index(self, client_id: str, host: str, valid_from: datetime) -> None:
        entry = {"client_id": client_id, "valid_from": valid_from, "updated_at": firestore.SERVER_TIMESTAMP}
        await self.client.collection("domain_index").document(host).set(entry)

    async def changes(self, client_id: str) -> list[dict[str, Any]]:
        query = self.client.collection("configuration_changes").where(filter=FieldFilter("client_id", "==", client_id))
        found = [entry.to_dict() or {} async for entry in query.stream()]
        ordered = sorted(found, key=lambda entry: entry["at"])
        return [{name: value for name, value in entry.items() if name != "at"} for entry in ordered]

    async def sync(self, client_id: str) -> dict[str, Any]:
        return (await self.client.collection("clients").document(client_id).get()).to_dict() or {}

    @asynccontextmanager
    async def proxied(self) -> AsyncIterator[tuple[ClientStore, Proxy]]:
        address = os.environ["FIRESTORE_EMULATOR_HOST"]
        async with proxy_to(int(address.rpartition(":")[2])) as proxy:
            with pytest.MonkeyPatch.context() as environment:
                environment.setenv("FIRESTORE_EMULATOR_HOST", f"127.0.0.1:{proxy.port}")
                store = await open_store(kind="firestore", project=self.client.project, dsn="")
            yield store, proxy
            await store.close()


@pytest.fixture(scope="session")
async def store_database(stack: Stack) -> AsyncIterator[str]:
    """A database of this module's own, so that sample clients of the stack are not in the way."""
    name = f"contract_{uuid.uuid4().hex[:8]}"
    async with await psycopg.AsyncConnection.connect(stack.postgres.admin_dsn, autocommit=True) as admin:
        await admin.execute(f"CREATE DATABASE {name} OWNER pipeline".encode())
        dsn = stack.postgres.dsn_for(name)
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await connection.execute("CREATE SCHEMA pipeline")
            migrations = resources.files("database") / "migrations" / "ledger"
            for name_ in ("0003_clients.sql", "0036_clients_sync.sql", "0055_clients_told.sql"):
                await connection.execute((migrations / name_).read_bytes())
    yield dsn
    # A test may have restarted the server: a new connection.
    async with await psycopg.AsyncConnection.connect(stack.postgres.admin_dsn, autocommit=True) as admin:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(params=["memory", "postgres", "firestore"])
async def bench(
    request: pytest.FixtureRequest, stack: Stack, store_database: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    if request.param == "memory":
        yield MemoryBench()
    elif request.param == "postgres":
        async with await psycopg.AsyncConnection.connect(store_database, autocommit=True) as connection:
            await connection.execute("TRUNCATE pipeline.clients, pipeline.domain_index, pipeline.configuration_changes")
            store = await open_store(kind="postgres", project="", dsn=store_database)
            yield PostgresBench(store, connection)
            await store.close()
    else:
        if not stack.environment.get("FIRESTORE_EMULATOR_HOST"):
            assert not os.environ.get("CI"), "CI has the Firestore emulator and must use it"
            pytest.skip("no Firestore emulator on this machine")
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", stack.environment["FIRESTORE_EMULATOR_HOST"])
        project = f"contract-{uuid.uuid4().hex[:8]}"  # the emulator keeps projects apart
        store = await open_store(kind="firestore", project=project, dsn="")
        client = firestore.AsyncClient(project=project)
        yield FirestoreBench(store, client)
        await store.close()
        await client._firestore_api.transport.close()


def make_client(client_id: str = "acme", **fields: Any) -> Client:
    return Client(
        client_id=ClientId(client_id),
        **{
            "name": "Acme",
            "privacy_level": PrivacyLevel.GDPR,
            "pseudonym_keys": (PseudonymKey(version=1, secret="sealed-pseudonym-key"),),
            "client_s3_secret_key": "sealed-secret-key",
            "features": {"a": [1, {"b": None}], "ü": 1.5},
            "domains": (Domain(host="shop.example.com", valid_from=JANUARY),),
            **fields,
        },
    )


async def until_later(bench: Bench, client: Client, moment: datetime) -> Client:
    """Store `client` until the store's own clock shows more than `moment`: the emulator's has milliseconds."""
    while (stored := await bench.store.put(client, actor="tester")).updated_at <= moment:
        pass
    return stored


async def test_put_then_get_returns_every_field(bench: Bench) -> None:
    client = make_client(created_at=JANUARY, email="ops@example.com", billing_rate_per_1k=0.25)
    stored = await bench.store.put(client, actor="tester")
    assert replace(stored, updated_at=client.updated_at) == client
    assert await bench.store.get(client.client_id) == stored


async def test_unknown_client_is_none(bench: Bench) -> None:
    assert await bench.store.get(ClientId("nobody")) is None


async def test_updated_at_is_the_stores_time_and_moves_on(bench: Bench) -> None:
    before = datetime.now(UTC)
    first = await bench.store.put(make_client(), actor="tester")
    second = await bench.store.put(replace(first, name="Acme 2"), actor="tester")
    assert before - timedelta(seconds=5) < first.updated_at < datetime.now(UTC) + timedelta(seconds=5)
    assert second.updated_at > first.updated_at
    assert second.created_at == first.created_at > JANUARY


async def test_changed_since_returns_changed_clients_and_all_for_none(bench: Bench) -> None:
    old = await bench.store.put(make_client("old"), actor="tester")
    new = await until_later(bench, make_client("new", is_active=False), old.updated_at)
    assert await bench.store.changed_since(new.updated_at) == [new]
    assert sorted(c.client_id for c in await bench.store.changed_since(None)) == ["new", "old"]
    assert sorted(c.client_id for c in await bench.store.changed_since(old.updated_at)) == ["new", "old"]
    assert await bench.store.changed_since(new.updated_at + timedelta(seconds=1)) == []


async def test_domains_are_replaced_as_a_whole(bench: Bench) -> None:
    first = await bench.store.put(make_client(), actor="tester")
    moved = (
        Domain(host="example.net", valid_from=JANUARY),
        Domain(host="site/7 ..", valid_from=JANUARY + timedelta(days=1)),
    )
    second = await bench.store.put(replace(first, domains=moved), actor="tester")
    assert second.domains == moved
    assert await bench.store.changed_since(None) == [second]


async def test_index_entry_of_another_tool_belongs_to_its_client(bench: Bench) -> None:
    client = await bench.store.put(make_client(), actor="tester")
    await until_later(bench, make_client("clock", domains=()), client.updated_at + timedelta(milliseconds=1))
    await bench.write_index("acme", "second.example.com", JANUARY)
    await bench.write_index("nobody", "third.example.com", JANUARY)
    changed = await bench.store.changed_since(client.updated_at + timedelta(milliseconds=1))
    (found,) = (entry for entry in changed if entry.client_id != "clock")
    assert isinstance(found, Client)
    assert {domain.host for domain in found.domains} == {"shop.example.com", "second.example.com"}
    assert await bench.store.put(replace(found, domains=()), actor="tester") == await bench.store.get(client.client_id)
    after = await bench.store.get(client.client_id)
    assert isinstance(after, Client)
    assert after.domains == ()


async def test_unreadable_document_names_the_field_never_the_value(bench: Bench) -> None:
    await bench.store.put(make_client("good"), actor="tester")
    await bench.write_raw("bad", {"client_id": "bad", "privacy_level": "secret-level"})
    await bench.write_raw("worse", {"client_id": "good", "privacy_level": "gdpr"})
    await bench.write_raw("empty", {})
    found = {c.client_id: c for c in await bench.store.changed_since(None)}
    assert isinstance(found[ClientId("good")], Client)
    bad, worse, empty = (found[ClientId(name)] for name in ("bad", "worse", "empty"))
    assert isinstance(bad, UnreadableClient)
    assert isinstance(worse, UnreadableClient)
    assert isinstance(empty, UnreadableClient)
    assert "privacy_level" in bad.reason
    assert "secret-level" not in repr(bad)
    assert "client_id" in worse.reason
    assert bad.updated_at > JANUARY
    got = await bench.store.get(ClientId("bad"))
    assert got == bad


async def test_put_mends_an_unreadable_client(bench: Bench) -> None:
    await bench.write_raw("acme", {"client_id": "acme", "privacy_level": "none", "billing_note": "kept"})
    stored = await bench.store.put(make_client(), actor="tester")
    assert await bench.store.get(stored.client_id) == stored


async def test_document_of_another_tool_with_defaults_is_readable(bench: Bench) -> None:
    await bench.write_raw(
        "plain", {"privacy_level": "hipaa", "unknown_member": [1], "name": None, "email": "a@b.example"}
    )
    found = await bench.store.get(ClientId("plain"))
    assert isinstance(found, Client)
    assert found.privacy_level is PrivacyLevel.HIPAA


async def test_history_names_who_and_which_fields_and_holds_no_secret(bench: Bench) -> None:
    first = await bench.store.put(make_client(), actor="first@example.com")
    keys = (*first.pseudonym_keys, PseudonymKey(version=2, secret="sealed-second-key"))
    changed = replace(first, privacy_level=PrivacyLevel.HIPAA, pseudonym_keys=keys, client_s3_secret_key="sealed-other")
    await bench.store.put(changed, actor="second@example.com")
    created, updated = await bench.changes("acme")
    assert created["actor"] == "first@example.com"
    assert updated["actor"] == "second@example.com"
    assert updated["client_id"] == "acme"
    assert updated["fields"] == ["client_s3_secret_key", "privacy_level", "pseudonym_keys"]
    assert updated["values"] == {"privacy_level": {"old": "gdpr", "new": "hipaa"}}
    assert "sealed" not in repr([created, updated])


async def test_a_change_is_found_by_its_id_if_and_only_if_it_was_made(bench: Bench) -> None:
    made, refused = uuid.uuid4().hex, uuid.uuid4().hex
    first = await bench.store.put(make_client(), actor="tester", change_id=made)
    with pytest.raises(ClientChangedError):
        await bench.store.put(replace(first, name="Other"), actor="tester", replacing=None, change_id=refused)
    assert await bench.store.has_change(first.client_id, made)
    assert not await bench.store.has_change(first.client_id, refused)
    assert not await bench.store.has_change(ClientId("other"), made)


async def test_report_of_a_sync_stands_beside_the_settings_and_is_no_change_of_them(bench: Bench) -> None:
    stored = await bench.store.put(make_client(), actor="tester")
    hour = timedelta(hours=1)
    well = SyncReport(at=JANUARY + hour, run_key="20260101T0100-hourly", complete_through=JANUARY)
    ill = SyncReport(at=JANUARY + 2 * hour, run_key="20260101T0200-hourly", error_class="AccessDenied", error="denied")
    for report in (well, ill):
        await bench.store.report_sync(stored.client_id, report)
    await bench.store.report_sync(ClientId("nobody"), well)
    assert await bench.store.get(ClientId("nobody")) is None
    assert await bench.store.get(stored.client_id) == stored
    assert len(await bench.changes(stored.client_id)) == 1
    # A change of the settings has seen no change meanwhile, and leaves the report alone.
    await bench.store.put(replace(stored, name="Other"), actor="tester", replacing=stored)
    found = await bench.sync(stored.client_id)
    assert {name: value for name, value in found.items() if name.startswith("last_sync_")} == {
        "last_sync_at": JANUARY + 2 * hour,
        "last_sync_status": "failed",
        "last_sync_run_key": "20260101T0200-hourly",
        "last_sync_error_class": "AccessDenied",
        "last_sync_error": "denied",
        "last_sync_succeeded_at": JANUARY + hour,
        "last_sync_complete_through": JANUARY,
    }


async def test_concurrent_puts_leave_one_whole_client(bench: Bench) -> None:
    async def put(number: int) -> Client | None:
        host = Domain(host=f"{number}.example.com", valid_from=JANUARY)
        try:
            return await bench.store.put(make_client(name=str(number), domains=(host,)), actor=str(number))
        except TransientError:
            return None

    stored = [client for client in await asyncio.gather(*map(put, range(4))) if client]
    assert stored
    final = await bench.store.get(ClientId("acme"))
    assert isinstance(final, Client)
    assert [domain.host for domain in final.domains] == [f"{final.name}.example.com"]


async def test_put_replaces_only_what_its_caller_has_seen(bench: Bench) -> None:
    first = await bench.store.put(make_client(), actor="tester", replacing=None)
    second = await bench.store.put(replace(first, name="Second"), actor="tester", replacing=first)
    with pytest.raises(ClientChangedError):
        await bench.store.put(replace(first, name="Lost update"), actor="tester", replacing=first)
    with pytest.raises(ClientChangedError):
        await bench.store.put(make_client(), actor="tester", replacing=None)
    with pytest.raises(ClientChangedError):
        await bench.store.put(make_client("other"), actor="tester", replacing=replace(second, client_id=ClientId("x")))
    assert await bench.store.get(first.client_id) == second
    assert await bench.store.get(ClientId("other")) is None
    assert len(await bench.changes("acme")) == 2
    await bench.write_index("acme", "second.example.com", JANUARY)
    with pytest.raises(ClientChangedError):  # a domain that another tool has added is a change too
        await bench.store.put(second, actor="tester", replacing=second)
    await bench.write_raw("acme", {"privacy_level": "none"})
    unreadable = await bench.store.get(first.client_id)
    mended = await bench.store.put(make_client(), actor="tester", replacing=unreadable)
    assert await bench.store.get(first.client_id) == mended


async def test_of_concurrent_puts_that_saw_the_same_one_wins(bench: Bench) -> None:
    first = await bench.store.put(make_client(), actor="tester")

    async def put(number: int) -> Client | None:
        try:
            return await bench.store.put(replace(first, name=str(number)), actor="tester", replacing=first)
        except TransientError:
            return None

    winners = [client for client in await asyncio.gather(*map(put, range(3))) if client]
    assert len(winners) == 1
    assert await bench.store.get(first.client_id) == winners[0]


async def test_who_listens_is_told_of_changes_of_settings_by_whomever_and_not_of_reports(bench: Bench) -> None:
    stored = await bench.store.put(make_client(), actor="tester")
    async with asyncio.timeout(30), aclosing(bench.store.listen()) as told:
        await anext(told)
        for change in (
            bench.store.put(replace(stored, name="Other"), actor="tester"),
            bench.write_index("acme", "second.example.com", JANUARY),
            bench.write_raw("acme", {"privacy_level": "hipaa"}),
        ):
            await change
            await anext(told)
        next_told = asyncio.ensure_future(anext(told))
        await asyncio.wait([next_told], timeout=0.3)  # one change may be told of twice
        if next_told.done():
            next_told = asyncio.ensure_future(anext(told))
        await bench.store.report_sync(stored.client_id, SyncReport(at=JANUARY, run_key="20260101T0100-hourly"))
        for _ in range(5):
            await bench.store.get(stored.client_id)
        assert not next_told.done()
        await bench.store.put(replace(stored, name="Third"), actor="tester")
        await next_told


@pytest.mark.parametrize("bench", ["postgres", "firestore"], indirect=True)
async def test_change_is_seen_at_once_and_a_lost_connection_is_made_anew(bench: Bench) -> None:
    # GIVEN a directory that polls once an hour
    stored = await bench.store.put(make_client(), actor="tester")
    async with bench.proxied() as (store, proxy):
        directory = ClientDirectory(store, refresh_seconds=3600.0)
        stop = asyncio.Event()
        keeping = asyncio.create_task(directory.keep_fresh(stop))

        async def is_seen() -> bool:
            return directory.get(stored.client_id) == stored

        await eventually(is_seen, what="the first load")
        for cut in (False, True, False):
            # WHEN a setting changes, also while nobody can be told of it
            if cut:
                proxy.reset()
            stored = await bench.store.put(replace(stored, name=f"{stored.name}+"), actor="tester")
            # THEN the directory has it
            await eventually(is_seen, seconds=20, what=f"the change, {cut=}")
        stop.set()
        await keeping


@pytest.mark.parametrize("kind", ["postgres", "firestore"])
async def test_silent_server_is_a_transient_error_in_time(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:  # accepts connections, never answers
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", address)
        store = await open_store(kind=kind, project="p", dsn=f"postgresql://u@{address}/d")
        store._deadline_seconds = 0.3  # type: ignore[attr-defined]
        try:
            async with asyncio.timeout(10):
                with pytest.raises(TransientError):
                    await store.changed_since(None)
        finally:
            await store.close()


@pytest.mark.parametrize("kind", ["postgres", "firestore"])
async def test_absent_server_is_a_transient_error(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: refused
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", address)
        store = await open_store(kind=kind, project="p", dsn=f"postgresql://u@{address}/d")
        try:
            with pytest.raises(TransientError):
                await store.get(ClientId("acme"))
        finally:
            await store.close()


async def test_postgres_store_connects_again_after_its_connection_died(store_database: str) -> None:
    store = await open_store(kind="postgres", project="", dsn=store_database)
    try:
        stored = await store.put(make_client("survivor"), actor="tester")
        async with await psycopg.AsyncConnection.connect(store_database, autocommit=True) as admin:
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'clients' AND datname = current_database()"
            )
        with pytest.raises(TransientError):
            await store.get(stored.client_id)
        assert await store.get(stored.client_id) == stored
    finally:
        await store.close()


async def test_cancelled_call_leaves_the_postgres_store_usable(store_database: str) -> None:
    store = await open_store(kind="postgres", project="", dsn=store_database)
    try:
        await store.changed_since(None)
        for _ in range(3):
            call = asyncio.create_task(store.changed_since(None))
            await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert isinstance(await store.changed_since(None), list)
    finally:
        await store.close()


async def test_missing_tables_say_what_to_run(stack: Stack) -> None:
    dsn = stack.postgres.dsn_for("template1")
    store = await open_store(kind="postgres", project="", dsn=dsn)
    try:
        with pytest.raises(ConfigError, match="migrate"):
            await store.changed_since(None)
    finally:
        await store.close()


async def test_value_that_postgresql_cant_hold_is_permanent_and_not_quoted(store_database: str) -> None:
    store = await open_store(kind="postgres", project="", dsn=store_database)
    try:
        with pytest.raises(PermanentError) as caught:
            await store.put(make_client("nul", name="private\0name"), actor="tester")
        assert "private" not in str(caught.value)
    finally:
        await store.close()


async def test_unknown_kind_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="CLIENT_STORE"):
        await open_store(kind="mongodb", project="", dsn="")
