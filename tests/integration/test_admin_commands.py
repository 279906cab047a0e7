"""`python -m admin user` and `import-clients`, by their commands."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from psycopg.types.json import Jsonb

from admin.importing import complete
from admin.ledger import users
from database.ledger import connected, open_pool
from local.stack import Stack
from pipeline.clients import Client, ClientId, PrivacyLevel, UnreadableClient
from pipeline.secrets import pseudonym_keys
from tests.integration.admin_scene import command
from tests.integration.syncer_scene import Scene, open_scene


@pytest.fixture(scope="module")
async def scene(stack: Stack) -> AsyncIterator[Scene]:
    async with open_scene(stack) as found:
        yield found


async def test_users_are_added_listed_and_removed_and_a_short_password_is_refused(scene: Scene) -> None:
    refused = await command(scene, "user", "add", "jane", "--role", "viewer", entered="short\n")
    assert refused[0] == 2
    assert "12 characters" in refused[2]
    for name in ("", "jane doe", "a\nb", 201 * "a"):
        refused = await command(scene, "user", "add", name, "--role", "viewer", entered="a longer password\n")
        assert (refused[0], refused[2].count("\n")) == (2, 1), refused
        assert "name is wrong" in refused[2]
    added, _, _ = await command(scene, "user", "add", "Jane", "--role", "viewer", entered="a longer password\n")
    assert added == 0
    listed = await command(scene, "user", "list")
    assert listed[1] == "jane\tviewer\tpassword\n"
    async with open_pool(scene.dsn, max_size=1) as pool, connected(pool) as connection:
        user = await users.find(connection, "JANE")
    assert user is not None
    assert user.password_hash is not None
    assert user.password_hash.startswith("$argon2id$")
    assert (await command(scene, "user", "remove", "jane"))[0] == 0
    assert (await command(scene, "user", "remove", "jane"))[0] == 1
    rows = await scene.execute("SELECT action, subject FROM pipeline.audit_log ORDER BY id")
    assert rows == [("user.added", "jane"), ("user.removed", "jane")]


async def test_clients_of_an_earlier_system_are_completed_and_their_salt_is_no_key(scene: Scene) -> None:
    old = {
        "complete-but-keys": {"privacy_level": "gdpr", "ip_salt": "old-salt", "client_s3_secret_key": "readable-key"},
        "no-level": {"name": "Old", "ip_salt": "old-salt", "features": {"a": 1}},
        "odd-level": {"privacy_level": "paranoid"},
    }
    for client_id, document in old.items():
        await scene.execute(
            "INSERT INTO pipeline.clients (client_id, document) VALUES (%s, %s)", client_id, Jsonb(document)
        )
    await scene.execute("INSERT INTO pipeline.domain_index (client_id, host) VALUES ('no-level', 'old.example')")
    status, output, _ = await command(scene, "import-clients", "--privacy-level", "hipaa", "--dry-run")
    assert status == 1  # odd-level is for a person to decide
    assert isinstance(await scene.store.get(ClientId("no-level")), UnreadableClient)
    status, output, errors = await command(scene, "import-clients", "--privacy-level", "hipaa")
    assert status == 1
    assert "odd-level\tunreadable" in output
    assert "paranoid" not in output + errors
    assert "readable-key" not in output + errors
    first = await scene.store.get(ClientId("complete-but-keys"))
    second = await scene.store.get(ClientId("no-level"))
    assert isinstance(first, Client)
    assert isinstance(second, Client)
    assert (second.privacy_level, second.name) == (PrivacyLevel.HIPAA, "Old")
    assert [domain.host for domain in second.domains] == ["old.example"]
    assert scene.box.decrypt(first.client_s3_secret_key) == "readable-key"
    assert first.privacy_level is PrivacyLevel.GDPR
    for client in (first, second):
        (key,) = pseudonym_keys(client, scene.box).values()
        assert len(key) == 32
        assert client.ip_salt == "old-salt"
        assert b"old-salt" not in key
        assert complete(client, scene.box) == (client, [])
