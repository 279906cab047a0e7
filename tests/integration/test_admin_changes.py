"""No change of a client without its entry in the audit log, whoever dies; and every secret under a new key."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from cryptography.fernet import Fernet

from admin import changes, clients
from admin.ledger import intents
from admin.pipeline import application
from admin.settings import AdminSettings
from database.ledger import Pool, open_pool
from local.stack import Stack
from pipeline.clients import Client, ClientChangedError, ClientId, ClientStore, PrivacyLevel
from pipeline.errors import PermanentError, TransientError
from pipeline.secrets import SecretBox, pseudonym_keys
from pipeline.stores import open_store
from pipeline.stores.memory import MemoryClientStore
from pipeline.syncqueue import ClientSync
from tests.integration.admin_scene import command
from tests.integration.syncer_scene import Scene, eventually, open_scene


@pytest.fixture(scope="module")
async def scene(stack: Stack) -> AsyncIterator[Scene]:
    async with open_scene(stack) as found:
        yield found


@pytest.fixture
async def pool(scene: Scene) -> AsyncIterator[Pool]:
    async with open_pool(scene.dsn, max_size=2) as pool:
        yield pool


async def entries(scene: Scene, client_id: str) -> list[Any]:
    """What the audit log says of the client: action and details."""
    query = "SELECT action, details FROM pipeline.audit_log WHERE client_id = %s ORDER BY id"
    return await scene.execute(query, client_id)


async def begun(scene: Scene) -> int:
    """How many changes wait for their entry."""
    ((count,),) = await scene.execute("SELECT count(*) FROM pipeline.audit_intents")
    return int(count)


class UnluckyStore(MemoryClientStore):
    """Its answers to `put` get lost, before or after the change."""

    def __init__(self, *, after: bool) -> None:
        super().__init__()
        self._after = after

    async def put(self, client: Client, **options: Any) -> Client:
        if self._after:
            await super().put(client, **options)
        raise TransientError("the answer was lost")


@pytest.mark.parametrize("made", [True, False])
async def test_after_a_lost_answer_there_is_an_entry_if_and_only_if_there_is_a_change(
    scene: Scene, pool: Pool, made: bool
) -> None:
    store = UnluckyStore(after=made)
    client = clients.blank(f"c-{uuid.uuid4().hex[:8]}")
    with pytest.raises(TransientError):
        await changes.make(pool, store, client, before=None, actor="jane", action="client.created")
    assert await entries(scene, client.client_id) == []
    assert await changes.settle(pool, store) == 0  # whoever made it may still be at it
    assert await changes.settle(pool, store, older_than_seconds=0) == made
    assert [action for action, _ in await entries(scene, client.client_id)] == ["client.created"] * made
    assert await begun(scene) == (not made)
    await scene.execute("UPDATE pipeline.audit_intents SET at = at - interval '2 hours'")
    assert await changes.settle(pool, store) == 0
    assert await begun(scene) == 0


async def test_a_change_stands_when_the_ledger_goes_away_before_its_entry(
    scene: Scene, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryClientStore()
    client = clients.blank(f"c-{uuid.uuid4().hex[:8]}")

    async def gone(*_: Any, **__: Any) -> bool:
        raise TransientError("the ledger does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(intents, "record", gone)
        stored = await changes.make(pool, store, client, before=None, actor="jane", action="client.created")
    assert await store.get(client.client_id) == stored
    # Two admins find it at the same moment.
    settled = await asyncio.gather(*(changes.settle(pool, store, older_than_seconds=0) for _ in range(2)))
    assert sum(settled) == 1
    ((action, details),) = await entries(scene, client.client_id)
    assert action == "client.created"
    assert "begun_at" in details
    with pytest.raises(ClientChangedError):
        await changes.make(pool, store, client, before=None, actor="jane", action="client.created")
    assert await begun(scene) == 0


@pytest.fixture(params=["postgres", "firestore"])
async def kind(
    request: pytest.FixtureRequest, stack: Stack, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[ClientStore, dict[str, str]]]:
    """A store of each kind, and what a program needs to find it."""
    host = stack.environment.get("FIRESTORE_EMULATOR_HOST", "")
    if request.param == "firestore":
        if not host:
            assert not os.environ.get("CI"), "CI has the Firestore emulator and must use it"
            pytest.skip("no Firestore emulator on this machine")
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", host)
    project = f"rotation-{uuid.uuid4().hex[:8]}"
    store = await open_store(kind=request.param, project=project, dsn=scene.dsn)
    yield store, {"CLIENT_STORE": request.param, "GOOGLE_CLOUD_PROJECT": project}
    await store.close()


async def test_credentials_rotate_through_a_crash_and_deliveries_go_on_without_the_old_key(
    scene: Scene, kind: tuple[ClientStore, dict[str, str]]
) -> None:
    store, environment = kind
    # An emulator that was started again shows what it had saved in every project: clients under another key.
    strangers = sorted(entry.client_id for entry in await store.changed_since(None))
    old, new = scene.environment["CREDENTIALS_KEYS"], Fernet.generate_key().decode()
    complete = await scene.add_client()
    gdpr = replace(complete, privacy_level=PrivacyLevel.GDPR, lawful_basis="contract")
    client = await store.put(gdpr, actor="test")
    other = await store.put(clients.completed(clients.blank(f"d-{uuid.uuid4().hex[:8]}"), scene.box), actor="test")

    async def deliver(minute: int, keys: str) -> None:
        # Processed when the client was `standard`: the syncer filters them, under the client's pseudonym key.
        await scene.add_objects(complete)
        named = {name.lower(): value for name, value in environment.items()}
        async with scene.deliverer(**named, credentials_keys=keys) as deliverer:
            run_key = f"20241123T06{minute:02d}-hourly"
            await deliverer.deliver(ClientSync(client_id=client.client_id, run_key=run_key))

    await deliver(0, old)
    keys = {**environment, "CREDENTIALS_KEYS": f"{new},{old}"}
    killed, _, _ = await command(scene, "rotate-credentials", **keys, FAILPOINT="admin.change.stored")
    assert killed == -signal.SIGKILL
    assert (await entries(scene, client.client_id), await begun(scene)) == ([], 1)

    done, output, errors = await command(scene, "rotate-credentials", **keys)
    assert done == bool(strangers)
    assert [line.split("\t")[0] for line in errors.splitlines()] == strangers
    rotated, total = (int(word) for word in output.split(" clients")[0].split(" of "))
    assert total - rotated == 1 + len(strangers)  # one was done before the crash
    assert strangers or "all but the first key can go" in output
    assert not any(secret in output for secret in (old, new, client.client_s3_secret_key, client.client_s3_access_key))

    await scene.execute("UPDATE pipeline.audit_intents SET at = at - interval '2 minutes'")
    settings = AdminSettings(
        **{name.lower(): value for name, value in {**scene.environment, **keys}.items()}  # type: ignore[arg-type]
    )
    async with application(settings, asyncio.Event()):
        await eventually(lambda: _none_begun(scene))
    for changed in (client, other):
        ((action, details),) = await entries(scene, changed.client_id)
        assert action == "client.credentials_rotated"
        assert details["changes"] == {}
    assert await scene.execute("SELECT id FROM pipeline.audit_log WHERE action = 'credentials.rotated'")

    only_new = SecretBox([new])
    found = await store.get(client.client_id)
    assert isinstance(found, Client)
    assert pseudonym_keys(found, only_new) == pseudonym_keys(client, scene.box)
    await deliver(1, new)
    lines = (await scene.read(client)).lines
    assert Counter(line["ip_hash"] for line in lines) == {lines[0]["ip_hash"]: 6}
    assert lines[0]["ip_hash"]
    await scene.execute("TRUNCATE pipeline.clients, pipeline.domain_index")  # the next kind has other keys


async def _none_begun(scene: Scene) -> bool:
    return not await begun(scene)


async def test_what_cannot_be_rotated_is_named_and_the_keys_are_to_be_kept(scene: Scene) -> None:
    lost = SecretBox([Fernet.generate_key().decode()])
    client = clients.completed(clients.blank("lost-key"), lost)
    await scene.store.put(client, actor="test")
    await scene.store.put(clients.completed(clients.blank("sound"), scene.box), actor="test")
    new = Fernet.generate_key().decode()
    status, output, errors = await command(
        scene, "rotate-credentials", CREDENTIALS_KEYS=f"{new},{scene.environment['CREDENTIALS_KEYS']}"
    )
    assert status == 1
    assert "keep every key" in output
    assert errors.startswith("lost-key\t")
    sound = await scene.store.get(ClientId("sound"))
    assert isinstance(sound, Client)
    assert pseudonym_keys(sound, SecretBox([new]))
    assert await scene.store.get(ClientId("lost-key")) is not None
    with pytest.raises(PermanentError):
        pseudonym_keys(client, scene.box)
