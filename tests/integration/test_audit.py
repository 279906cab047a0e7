"""The audit log: a chain that concurrent writers extend one by one, and in which every tampering is found and named."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress

import psycopg
import pytest
from psycopg import sql

from database.ledger import audit
from database.migrate import migrate
from local.stack import Stack


@pytest.fixture(scope="module")
async def dsn(stack: Stack) -> AsyncIterator[str]:
    name = f"audit_{uuid.uuid4().hex[:12]}"
    async with await psycopg.AsyncConnection.connect(
        stack.postgres.dsn_for("postgres", user="postgres"), autocommit=True
    ) as admin:
        await admin.execute(sql.SQL("CREATE DATABASE {} OWNER pipeline").format(sql.Identifier(name)))
        await migrate(stack.postgres.dsn_for(name), stack.postgres.dsn_for(name))
        yield stack.postgres.dsn_for(name)
        await admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


async def write(connection: psycopg.AsyncConnection, number: int, *, actor: str = "test") -> None:
    async with connection.transaction():
        await audit.append(
            connection,
            actor=actor,
            action="thing.done",
            client_id=f"client-{number % 3}",
            subject=f"thing {number}",
            details={"n": number, "factor": 1.10, "huge": 10**400, "text": "zoë\x7f"},
        )


@pytest.fixture
async def chain(dsn: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """A connection to a chain of 8 entries; as its superuser would, the test's end takes them away."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        for number in range(1, 9):
            await write(connection, number)
        yield connection
        await tamper(
            connection,
            "DELETE FROM pipeline.audit_log; DELETE FROM pipeline.audit_head;"
            " INSERT INTO pipeline.audit_head (entries, hash) VALUES (0, repeat('0', 64))",
        )


async def tamper(connection: psycopg.AsyncConnection, statements: str) -> None:
    async with connection.transaction():
        await connection.execute("ALTER TABLE pipeline.audit_log DISABLE TRIGGER ALL")
        await connection.execute("ALTER TABLE pipeline.audit_head DISABLE TRIGGER ALL")
        await connection.execute(statements.encode())
        await connection.execute("ALTER TABLE pipeline.audit_log ENABLE TRIGGER ALL")
        await connection.execute("ALTER TABLE pipeline.audit_head ENABLE TRIGGER ALL")


async def test_what_people_did_is_not_lost_among_what_the_processor_stored(chain: psycopg.AsyncConnection) -> None:
    async with chain.transaction():
        await audit.append(chain, actor="processor", action="objects.stored", client_id="client-1", details={})
    assert [entry.id for entry in await audit.page(chain, limit=2)] == [9, 8]
    assert [entry.id for entry in await audit.page(chain, limit=2, changes_only=True)] == [8, 7]


async def test_concurrent_writers_make_one_whole_chain_and_an_aborted_one_leaves_no_trace(
    dsn: str, chain: psycopg.AsyncConnection
) -> None:
    async def writer(name: str) -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            for number in range(20):
                await write(connection, number, actor=name)
                with suppress(ZeroDivisionError):
                    async with connection.transaction():
                        await audit.append(connection, actor=name, action="x.y", client_id=None, details={})
                        raise ZeroDivisionError

    await asyncio.gather(*(writer(f"writer-{n}") for n in range(5)))
    verdict = await audit.verify(chain)
    assert verdict.broken is None
    assert verdict.head.entries == 108
    assert await audit.head(chain) == verdict.head
    newest = await audit.page(chain, limit=3)
    assert [entry.id for entry in newest] == [108, 107, 106]
    older = await audit.page(chain, before=106, limit=500, client_id="client-1")
    assert older == sorted(older, key=lambda entry: -entry.id)
    assert {entry.client_id for entry in older} == {"client-1"}
    assert older[-1].says() == {"n": 1, "factor": 1.1, "huge": 10**400, "text": "zoë\x7f"}


@pytest.mark.parametrize(
    ("statements", "entry", "word"),
    [
        ("UPDATE pipeline.audit_log SET actor = 'nobody' WHERE id = 5", 5, "changed"),
        ("UPDATE pipeline.audit_log SET details = '{\"n\":4}' WHERE id = 5", 5, "changed"),
        ("UPDATE pipeline.audit_log SET at = at + interval '1 microsecond' WHERE id = 1", 1, "changed"),
        ("UPDATE pipeline.audit_log SET client_id = NULL WHERE id = 8", 8, "changed"),
        ("DELETE FROM pipeline.audit_log WHERE id = 4", 4, "removed"),
        ("DELETE FROM pipeline.audit_log WHERE id BETWEEN 1 AND 3", 1, "entries 1 to 3"),
        ("DELETE FROM pipeline.audit_log WHERE id > 6", 7, "the chain had 8 entries"),
        ("DELETE FROM pipeline.audit_log", 1, "the chain had 8 entries"),
        ("DELETE FROM pipeline.audit_head", 9, "audit_head"),
        (
            "UPDATE pipeline.audit_log SET id = -3 WHERE id = 3; UPDATE pipeline.audit_log SET id = 3 WHERE id = 4;"
            " UPDATE pipeline.audit_log SET id = 4 WHERE id = -3",
            3,
            "moved: what was entry 3 stands as entry 4",
        ),
        (
            "INSERT INTO pipeline.audit_log SELECT 9, at, actor, action, client_id, subject, details, hash,"
            " repeat('a', 64) FROM pipeline.audit_log WHERE id = 8",
            9,
            "changed",
        ),
        (
            "INSERT INTO pipeline.audit_log SELECT 0, at, actor, action, client_id, subject, details, repeat('b', 64),"
            " repeat('a', 64) FROM pipeline.audit_log WHERE id = 8",
            0,
            "inserted",
        ),
    ],
)
async def test_the_first_entry_that_is_not_as_it_was_written_is_named(
    chain: psycopg.AsyncConnection, statements: str, entry: int, word: str
) -> None:
    await tamper(chain, statements)
    broken = (await audit.verify(chain)).broken
    assert broken is not None
    assert broken.id == entry
    assert word in broken.problem


async def test_an_entry_that_was_forged_with_its_own_hash_and_a_chain_cut_with_its_head_are_found(
    chain: psycopg.AsyncConnection,
) -> None:
    noted = (await audit.verify(chain)).head
    forged = next(entry for entry in await audit.page(chain) if entry.id == 5)
    digest = audit._hash(
        5, forged.at, "forger", forged.action, forged.client_id, forged.subject, forged.details, forged.previous_hash
    )
    await tamper(chain, f"UPDATE pipeline.audit_log SET actor = 'forger', hash = '{digest}' WHERE id = 5")
    broken = (await audit.verify(chain)).broken
    assert broken is not None
    assert (broken.id, "that one was written anew" in broken.problem) == (6, True)

    await tamper(
        chain,
        "DELETE FROM pipeline.audit_log WHERE id > 4; UPDATE pipeline.audit_head SET entries = 4,"
        " hash = (SELECT hash FROM pipeline.audit_log WHERE id = 4)",
    )
    assert (await audit.verify(chain)).broken is None, "only what was noted elsewhere can show this"
    broken = (await audit.verify(chain, noted)).broken
    assert broken is not None
    assert broken.problem == "removed: 8 entries were noted"
    for number in range(5, 9):
        await write(chain, number, actor="forger")
    broken = (await audit.verify(chain, noted)).broken
    assert broken is not None
    assert (broken.id, "written anew" in broken.problem) == (8, True)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE pipeline.audit_log SET actor = 'x'",
        "DELETE FROM pipeline.audit_log WHERE id = 8",
        "TRUNCATE pipeline.audit_log",
        "DELETE FROM pipeline.audit_head",
        "UPDATE pipeline.audit_head SET entries = entries - 1",
    ],
)
async def test_the_database_refuses_to_change_what_was_written(chain: psycopg.AsyncConnection, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await chain.execute(statement.encode())


async def test_an_entry_needs_a_transaction_and_holds_no_secret(chain: psycopg.AsyncConnection) -> None:
    with pytest.raises(RuntimeError):
        await audit.append(chain, actor="a", action="b.c", client_id=None, details={})
    for details in ({"client_s3_secret_key": "x"}, {"a": [{"password": "x"}]}, {"ip_salt": ""}, {"x": object()}):
        async with chain.transaction():
            with pytest.raises(ValueError, match="details must"):
                await audit.append(chain, actor="a", action="b.c", client_id=None, details=details)


async def test_the_command_names_the_broken_entry_and_exits_1(dsn: str, chain: psycopg.AsyncConnection) -> None:
    async def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "database", "audit", "verify", *arguments]
        return await asyncio.to_thread(
            subprocess.run, command, env={"DATABASE_URL": dsn}, capture_output=True, text=True, check=False
        )

    sound = await run()
    assert (sound.returncode, sound.stderr) == (0, "")
    noted = sound.stdout.split()[-1]
    await tamper(chain, "UPDATE pipeline.audit_log SET subject = 'other' WHERE id = 6")
    broken = await run("--anchor", noted)
    assert broken.returncode == 1
    assert "entry 6: changed" in broken.stdout
    with pytest.raises(ValueError, match="NUMBER:HASH"):
        audit.Head.parse("17")
