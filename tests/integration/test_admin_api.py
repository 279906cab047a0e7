"""The admin's API on a real ledger and store."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from admin import quarantine
from admin.identity import Role
from local.stack import Stack
from pipeline.clients import Client, ClientId, UnreadableClient
from pipeline.syncqueue import ClientSync
from tests.integration.admin_scene import KEY, AdminScene, open_admin

SECRET = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"
ACCESS = "AKIAIOSFODNN7EXAMPLE"


@pytest.fixture(scope="module")
async def admin(stack: Stack) -> AsyncIterator[AdminScene]:
    async with open_admin(stack) as scene:
        yield scene


@pytest.fixture
async def api(admin: AdminScene) -> AsyncIterator[httpx.AsyncClient]:
    async with admin.api() as http:
        yield http


def new(client_id: str, **fields: Any) -> dict[str, Any]:
    return {"client_id": client_id, "name": "Acme", "privacy_level": "gdpr", **fields}


async def stored(admin: AdminScene, client_id: str) -> Client:
    found = await admin.scene.store.get(ClientId(client_id))
    assert isinstance(found, Client)
    return found


async def test_creating_twice_makes_one_client_and_another_under_its_id_is_refused(
    admin: AdminScene, api: httpx.AsyncClient
) -> None:
    body = new("twice", client_s3_access_key=ACCESS, client_s3_secret_key=SECRET)
    body["domains"] = [{"host": "Twice.example", "valid_from": "2026-01-01T00:00:00Z"}]
    first = await api.post("/api/v1/clients", json=body)
    assert first.status_code == 201, first.text
    assert first.headers["location"] == "/api/v1/clients/twice"
    again = await api.post("/api/v1/clients", json=body)
    assert again.status_code == 200
    assert (again.json(), again.headers["etag"]) == (first.json(), first.headers["etag"])
    for other in ({**body, "name": "Other"}, {**body, "client_s3_secret_key": "another"}):
        refused = await api.post("/api/v1/clients", json=other)
        assert refused.status_code == 409
        assert refused.headers["content-type"] == "application/problem+json"
    client = await stored(admin, "twice")
    assert admin.scene.box.decrypt(client.client_s3_secret_key) == SECRET
    assert len(client.pseudonym_keys) == 1
    assert [entry["action"] for entry in await admin.audit() if entry["client_id"] == "twice"] == ["client.created"]


async def test_a_change_needs_the_etag_that_was_read_and_no_update_gets_lost(api: httpx.AsyncClient) -> None:
    etag = (await api.post("/api/v1/clients", json=new("tagged"))).headers["etag"]
    assert (await api.patch("/api/v1/clients/tagged", json={"name": "No tag"})).status_code == 428
    mine = await api.patch("/api/v1/clients/tagged", json={"name": "Mine"}, headers={"if-match": etag})
    assert mine.status_code == 200
    theirs = await api.patch("/api/v1/clients/tagged", json={"name": "Theirs"}, headers={"if-match": etag})
    assert theirs.status_code == 412
    assert (await api.delete("/api/v1/clients/tagged", headers={"if-match": etag})).status_code == 412
    read = await api.get("/api/v1/clients/tagged")
    assert read.json()["name"] == "Mine"
    assert read.headers["etag"] == mine.headers["etag"] != etag
    gone = await api.delete("/api/v1/clients/tagged", headers={"if-match": read.headers["etag"]})
    assert gone.status_code == 204
    assert (await api.get("/api/v1/clients/tagged")).json()["is_active"] is False


async def test_every_change_leaves_who_what_before_and_after_but_no_secret(
    admin: AdminScene, api: httpx.AsyncClient
) -> None:
    await api.post("/api/v1/clients", json=new("noted", email="jane@example.com"))
    changes = {"privacy_level": "hipaa", "client_s3_access_key": ACCESS, "client_s3_secret_key": SECRET}
    answer = await api.patch("/api/v1/clients/noted", json=changes, headers={"if-match": "*"})
    assert answer.status_code == 200, answer.text
    await api.post("/api/v1/clients/noted/domains", json={"host": "noted.example"})
    await api.delete("/api/v1/clients/noted/domains", params={"host": "noted.example"})
    await api.post("/api/v1/clients/noted/pseudonym-keys")
    entries = [entry for entry in await admin.audit() if entry["client_id"] == "noted"]
    assert [entry["action"].partition(".")[2] for entry in reversed(entries)] == [
        "created",
        "changed",
        "domain_added",
        "domain_removed",
        "pseudonym_key_renewed",
    ]
    assert {entry["actor"] for entry in entries} == {"admin-key"}
    changed = entries[-2]["details"]
    assert changed["changes"] == {"privacy_level": {"before": "gdpr", "after": "hipaa"}}
    assert changed["hidden"] == ["access key of the bucket", "secret of the bucket"]
    said = json.dumps(entries)
    assert not any(text in said for text in (ACCESS, SECRET, "jane@example.com", "gAAAA"))
    verdict = (await api.get("/api/v1/audit/verify")).json()
    assert verdict["whole"]
    await admin.scene.execute("ALTER TABLE pipeline.audit_log DISABLE TRIGGER ALL")
    await admin.scene.execute("UPDATE pipeline.audit_log SET actor = 'nobody' WHERE id = 1")
    broken = (await api.get("/api/v1/audit/verify")).json()
    assert (broken["whole"], broken["broken_at"]) == (False, 1)
    await admin.scene.execute("UPDATE pipeline.audit_log SET actor = 'admin-key' WHERE id = 1")
    await admin.scene.execute("ALTER TABLE pipeline.audit_log ENABLE TRIGGER ALL")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"client_s3_bucket": "No Bucket"}, "client_s3_bucket"),
        ({"client_s3_prefix": "/lead"}, "client_s3_prefix"),
        ({"client_s3_prefix": "a/../b/"}, "client_s3_prefix"),
        ({"client_s3_access_key": ACCESS}, "client_s3_secret_key"),
        ({"client_s3_secret_key": SECRET}, "client_s3_access_key"),
        ({"sync_enabled": True}, "client_s3_bucket"),
        ({"sync_enabled": True, "client_s3_bucket": "bucket"}, "client_s3_role_arn"),
        ({"consent_required": False, "consent_mode": "drop"}, "consent_mode"),
        ({"name": "with\0null"}, "name"),
        ({"features": {"deep": ["\u0000"]}}, "features"),
        ({"domains": [{"host": "https://shop.example/"}]}, "domains.0.host"),
        ({"domains": [{"host": "a.example", "valid_from": "1816-01-01T00:00:00Z"}]}, "domains.0.valid_from"),
        ({"privacy_level": "none"}, "privacy_level"),
        ({"client_s3_secret_key": ["wJalrXUtnFEMI"]}, "client_s3_secret_key"),
        ({"ip_salt": "x"}, "ip_salt"),
    ],
)
async def test_a_value_that_cant_be_is_refused_by_its_name_and_not_quoted(
    api: httpx.AsyncClient, fields: dict[str, Any], field: str
) -> None:
    answer = await api.post("/api/v1/clients", json=new("refused", **fields))
    assert answer.status_code == 422
    problem = answer.json()
    assert field in [error["field"] for error in problem["errors"]], problem
    assert "wJalr" not in answer.text
    assert (await api.get("/api/v1/clients/refused")).status_code == 404


async def test_a_domain_that_two_clients_would_claim_from_one_moment_is_refused(api: httpx.AsyncClient) -> None:
    domain = {"host": "contested.example", "valid_from": "2026-02-01T00:00:00Z"}
    assert (await api.post("/api/v1/clients", json=new("first", domains=[domain]))).status_code == 201
    second = await api.post("/api/v1/clients", json=new("second", domains=[domain]))
    assert second.status_code == 422
    assert "first" in second.json()["errors"][0]["message"]


async def test_list_is_searched_and_paged(api: httpx.AsyncClient) -> None:
    for number in range(5):
        domains = [{"host": f"paged-{number}.example"}]
        await api.post("/api/v1/clients", json=new(f"paged-{number}", domains=domains))
    seen: list[str] = []
    after = ""
    while True:
        page = (await api.get("/api/v1/clients", params={"q": "PAGED-", "limit": 2, "after": after})).json()
        assert page["total"] == 5
        seen += [item["client_id"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert seen == [f"paged-{number}" for number in range(5)]


async def test_no_answer_holds_a_secret(admin: AdminScene, api: httpx.AsyncClient) -> None:
    bucket = {"client_s3_bucket": "silent-bucket", "client_s3_endpoint_url": admin.scene.stack.aws.endpoint_url}
    body = new("silent", client_s3_access_key=ACCESS, client_s3_secret_key=SECRET, **bucket)
    await api.post("/api/v1/clients", json=body)
    client = await stored(admin, "silent")
    await admin.scene.store.put(
        Client.from_document({**client.to_document(), "ip_salt": "imported-salt-value"}), actor="test"
    )
    client = await stored(admin, "silent")
    secrets = [ACCESS, SECRET, "imported-salt-value", client.client_s3_secret_key, client.pseudonym_keys[0].secret, KEY]
    person = await admin.person()
    texts = []
    for path in ("", "/domains", "/deliveries"):
        texts.append((await api.get(f"/api/v1/clients/silent{path}")).text)
    for path in ("/api/v1/clients", "/api/v1/audit", "/api/v1/replays", "/api/v1/quarantine", "/pipeline/status"):
        texts.append((await api.get(path)).text)
    for path in ("/", "/clients", "/clients/silent", "/clients/silent/edit", "/audit", "/quarantine", "/replays"):
        texts.append((await person.http.get(path)).text)
    form = {"stored_id": "silent", "client_id": "silent", "access": "keys", "client_s3_secret_key": SECRET, "name": ""}
    form |= bucket
    for path in ("/clients/silent/edit", "/check?field=name", "/preview", "/test-connection"):
        answer = await person.submit(path, **form)
        assert answer.status_code < 500  # also while another field of the form can't be
        texts.append(answer.text)
    texts.append((await api.post("/api/v1/clients/silent/test-connection")).text)
    assert len(texts) == 20
    for text in texts:
        assert not [secret for secret in secrets if secret in text], text[:200]


async def test_unreadable_client_is_listed_with_its_reason_and_mended_by_a_whole_patch(
    admin: AdminScene, api: httpx.AsyncClient
) -> None:
    await admin.scene.execute(
        "INSERT INTO pipeline.clients (client_id, document) VALUES ('broken', '{\"privacy_level\": \"secret-word\"}')"
    )
    await admin.app.state.desk.directory.refresh()
    (item,) = (await api.get("/api/v1/clients", params={"q": "broken"})).json()["items"]
    assert "privacy_level" in item["unreadable"]
    read = await api.get("/api/v1/clients/broken")
    assert read.status_code == 409
    assert "secret-word" not in read.text
    assert (await api.patch("/api/v1/clients/broken", json={"name": "x"}, headers={"if-match": "*"})).status_code == 409
    whole = {"name": "Mended", "privacy_level": "gdpr"}
    mended = await api.patch("/api/v1/clients/broken", json=whole, headers={"if-match": "*"})
    assert mended.status_code == 200, mended.text
    assert not isinstance(await admin.scene.store.get(ClientId("broken")), UnreadableClient)


async def test_test_connection_explains_a_wrong_key_and_sync_delivers_once_it_is_mended(
    admin: AdminScene, api: httpx.AsyncClient
) -> None:
    client = await admin.scene.add_client()
    path = f"/api/v1/clients/{client.client_id}"
    right = admin.scene.box.decrypt(client.client_s3_secret_key)
    keys = {"client_s3_secret_key": "not-the-key", "client_s3_access_key": client.client_s3_access_key}
    await api.patch(path, json=keys, headers={"if-match": "*"})
    report = (await api.post(f"{path}/test-connection")).json()
    assert not report["ok"]
    assert [step["code"] for step in report["steps"] if step["ok"] is False] == ["SignatureDoesNotMatch"]
    assert report["steps"][-1]["what_to_do"]
    await api.patch(path, json={**keys, "client_s3_secret_key": right}, headers={"if-match": "*"})
    assert (await api.post(f"{path}/test-connection")).json()["ok"]
    events = await admin.scene.add_objects(await admin.scene.store.get(client.client_id), events=3)  # type: ignore[arg-type]
    ordered = await api.post(f"{path}/sync")
    assert ordered.status_code == 202, ordered.text
    run_key = ordered.json()["run_key"]
    async with admin.scene.stack.aws.client("sqs") as sqs:
        answer = await sqs.receive_message(QueueUrl=admin.settings.sync_queue_url, WaitTimeSeconds=5)
    assert json.loads(answer["Messages"][0]["Body"]) == {"client_id": client.client_id, "run_key": run_key}
    async with admin.scene.deliverer() as deliverer:
        await deliverer.deliver(ClientSync(client_id=client.client_id, run_key=run_key))
    assert set((await admin.scene.read(client)).event_ids) == set(events)
    (run,) = (await api.get(f"{path}/deliveries")).json()["items"]
    assert (run["run_key"], run["status"], run["events"], run["files"]) == (run_key, "finished", 3, 1)
    details = (await api.get(f"{path}/deliveries/{run_key}")).json()
    assert [file["events"] for file in details["file_list"]] == [3]
    assert details["manifest"]["run_key"] == run_key


async def test_back_fill_and_replay_refuse_hours_that_cant_be_meant(admin: AdminScene, api: httpx.AsyncClient) -> None:
    client = await admin.scene.add_client()
    path = f"/api/v1/clients/{client.client_id}"
    backwards = {"since": "2026-02-02T00:00:00Z", "until": "2026-02-01T00:00:00Z"}
    assert (await api.post(f"{path}/sync", json=backwards)).status_code == 422
    order = {"first_hour": "2026-02-02T05:30:00Z", "last_hour": "2026-02-01T00:00:00Z", "client_id": client.client_id}
    assert (await api.post("/api/v1/replays", json=order)).status_code == 422
    order["last_hour"] = "2026-02-02T08:10:00Z"
    asked = await api.post("/api/v1/replays", json=order)
    assert asked.status_code == 202, asked.text
    assert asked.json()["first_hour"] == "2026-02-02T05:00:00Z"
    assert asked.json()["state"] == "requested"
    assert (await api.post("/api/v1/replays", json={**order, "client_id": "nobody"})).status_code == 404
    newest, *_ = (await api.get("/api/v1/replays")).json()["items"]
    assert newest["id"] == asked.json()["id"]


async def test_quarantine_is_counted_by_domain_and_registering_one_asks_for_its_replay(
    admin: AdminScene, api: httpx.AsyncClient
) -> None:
    await api.post("/api/v1/clients", json=new("owner-of-shop"))
    shop = {"site_id": "site-7", "url": "https://www.shop.example/cart?email=jane@example.com"}
    await admin.quarantine(shop, shop, {"client_id": "gone-client", "url": "https://gone.example/"})
    await admin.quarantine(
        {**shop, "client_id": "unknown_abc"}, {"site_id": "jane doe <x>", "url": "https://[", "client_id": "a b"}
    )
    desk = admin.app.state.desk
    assert await quarantine.count(desk.pool, admin.scene.processed) == 5
    assert await quarantine.count(desk.pool, admin.scene.processed) == 0
    found = (await api.get("/api/v1/quarantine")).json()
    assert (found["events"], found["not_counted_yet"]) == (5, 0)
    names = {(item["client_id"], item["site_id"], item["host"]): item["events"] for item in found["items"]}
    assert names == {("", "site-7", "shop.example"): 3, ("gone-client", "", "gone.example"): 1, ("!", "", ""): 1}
    assert "jane" not in json.dumps(found)
    order = {"client_id": "owner-of-shop", "host": "shop.example", "valid_from": "2024-11-01T00:00:00Z"}
    answer = await api.post("/api/v1/quarantine/register", json=order)
    assert answer.status_code == 201, answer.text
    (replay,) = [r for r in (await api.get("/api/v1/replays")).json()["items"] if r["id"] == answer.json()["replay"]]
    assert (replay["quarantine"], replay["first_hour"]) == (True, "2024-11-23T05:00:00Z")
    domains = (await api.get("/api/v1/clients/owner-of-shop/domains")).json()["items"]
    assert domains == [{"host": "shop.example", "valid_from": "2024-11-01T00:00:00Z"}]


async def test_api_takes_changes_by_key_only_and_shows_a_session_what_it_asks(admin: AdminScene) -> None:
    person = await admin.person(role=Role.VIEWER)
    assert (await person.http.get("/api/v1/clients")).status_code == 200
    refused = await person.http.post("/api/v1/clients", json=new("by-session"))
    assert refused.status_code == 401
    async with admin.http(authorization="Bearer wrong") as stranger:
        assert (await stranger.get("/api/v1/clients")).status_code == 401
        assert (await stranger.get("/")).status_code == 401
