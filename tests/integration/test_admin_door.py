"""Who gets into the admin, and what nobody gets: routes, sessions, form tokens, lock-out, the OpenID provider."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.routing import iter_route_contexts
from joserfc import jwt
from joserfc.jwk import RSAKey

from admin import guard, limits
from admin.identity import Role
from admin.ledger import users
from database.ledger import connected, open_pool
from local import ports
from local.stack import Stack
from tests.integration.admin_scene import PASSWORD, AdminScene, Person, open_admin
from tests.integration.syncer_scene import eventually


@pytest.fixture(scope="module")
async def admin(stack: Stack) -> AsyncIterator[AdminScene]:
    async with open_admin(stack) as scene:
        yield scene


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """Method and path of every route, its parameters filled in."""
    found = []
    for route in iter_route_contexts(app.routes):
        path = route.path
        for name in route.param_convertors:
            path = path.replace(f"{{{name}}}", "some-id").replace(f"{{{name}:path}}", "some-id")
        found += [(method, path) for method in route.methods or ()]
    return found


async def test_nothing_but_health_is_reached_without_session_or_key(admin: AdminScene) -> None:
    every = routes(admin.app)
    assert len({path for _, path in every}) > 40
    behind = [(method, path) for method, path in every if path not in guard.OPERATIONS | guard.DOORS]
    assert {path for _, path in every} - {path for _, path in behind} <= guard.OPERATIONS | guard.DOORS
    async with admin.http() as stranger:
        for method, path in behind:
            answer = await stranger.request(method, path)
            expected = (401, 403) if path.startswith("/api/") or method not in ("GET", "HEAD") else (303,)
            assert answer.status_code in expected, (method, path, answer.status_code)
            assert "some-id" not in answer.text
        for path in ("/docs", "/redoc", "/openapi.json", "/api/v1/nothing", "/nothing", "/static/../settings.py"):
            assert (await stranger.get(path)).status_code in (303, 401, 404), path


async def test_open_pages_for_operations_take_no_changes_and_show_no_client(admin: AdminScene) -> None:
    client = await admin.scene.add_client()
    await admin.scene.add_objects(client)
    async with admin.http() as stranger:
        for path in sorted(guard.OPERATIONS):
            answer = await stranger.get(path)
            assert answer.status_code in (200, 503), path
            assert client.client_id not in answer.text, path
            assert (await stranger.post(path)).status_code in (401, 403), path


async def test_a_viewer_is_refused_every_change(admin: AdminScene) -> None:
    viewer = await admin.person(role=Role.VIEWER)
    changing = [path for method, path in routes(admin.app) if method == "POST" and not path.startswith("/api/")]
    changing = [path for path in changing if path not in guard.DOORS | guard.OPERATIONS | {"/logout"}]
    assert len(changing) > 8
    for path in changing:
        answer = await viewer.submit(path)
        assert answer.status_code == 403, path
        assert "may look, not change" in answer.text


@pytest.mark.parametrize("token", ["", "wrong", "another's"])
async def test_a_form_without_the_sessions_own_token_changes_nothing(admin: AdminScene, token: str) -> None:
    person = await admin.person()
    if token == "another's":
        token = (await admin.person()).token
    client = await admin.scene.add_client()
    answer = await person.http.post(f"/clients/{client.client_id}/pause", data={"form_token": token, "enabled": "no"})
    assert answer.status_code == 403
    assert (await person.submit(f"/clients/{client.client_id}/pause", enabled="no")).status_code == 303


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}])
async def test_a_form_sent_from_another_site_is_refused_even_at_the_door(
    admin: AdminScene, headers: dict[str, str]
) -> None:
    person = await admin.person()
    for path in ("/login", "/logout"):
        data = {"form_token": person.token, "name": person.name, "password": PASSWORD}
        assert (await person.http.post(path, data=data, headers=headers)).status_code == 403


async def test_cookie_is_kept_from_scripts_and_other_sites_and_from_http_where_there_is_https(stack: Stack) -> None:
    async with open_admin(stack, admin_url="https://admin.test") as admin:
        person = await admin.person()
        answer = await person.http.post("https://admin.test/login", data={"name": person.name, "password": PASSWORD})
        cookie = answer.headers["set-cookie"].lower()
        assert cookie.startswith("__host-session=")
        for flag in ("httponly", "samesite=lax", "secure", "path=/"):
            assert flag in cookie
        assert "max-age=31536000" in answer.headers["strict-transport-security"]


async def test_pages_allow_no_inline_script_no_frame_and_no_cache(admin: AdminScene) -> None:
    person = await admin.person()
    page = await person.http.get("/clients")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["cache-control"] == "no-store"
    assert "<style" not in page.text
    assert " style=" not in page.text
    assert " onclick=" not in page.text


async def test_five_wrong_passwords_close_the_account_also_for_the_right_one_until_it_is_unlocked(
    admin: AdminScene,
) -> None:
    person = await admin.person()
    async with admin.http() as stranger:

        async def attempt(password: str) -> httpx.Response:
            admin.app.state.login_limit = limits.RateLimit()
            return await stranger.post("/login", data={"name": person.name, "password": password})

        for _ in range(users.MOST_FAILURES):
            assert (await attempt("wrong")).status_code == 403
        locked = await attempt(PASSWORD)
        assert locked.status_code == 403
        assert "closed" in locked.text
        async with open_pool(admin.scene.dsn, max_size=1) as pool, connected(pool) as connection:
            assert await users.unlock(connection, person.name)
        assert (await attempt(PASSWORD)).status_code == 303
    assert "login.locked" in {entry["action"] for entry in await admin.audit()}


async def test_one_address_gets_ten_tries_a_minute_whatever_the_names(admin: AdminScene) -> None:
    admin.app.state.login_limit = limits.RateLimit()
    async with admin.http() as stranger:
        statuses = [
            (await stranger.post("/login", data={"name": f"n{number}", "password": "x"})).status_code
            for number in range(limits.TRIES + 1)
        ]
    assert statuses == [403] * limits.TRIES + [429]


def test_tries_are_forgotten_after_a_minute() -> None:
    now = [0.0]
    limit = limits.RateLimit(lambda: now[0])
    assert [limit.admit("a") for _ in range(limits.TRIES + 1)][-1] is False
    assert limit.admit("b")
    now[0] = limits.WINDOW_SECONDS + 1
    assert limit.admit("a")


async def test_session_ends_with_logout_with_its_user_and_with_another_password(admin: AdminScene) -> None:
    first, second = await admin.person(), await admin.person()
    assert (await first.submit("/logout")).status_code == 303
    assert (await first.http.get("/clients")).status_code == 303
    async with open_pool(admin.scene.dsn, max_size=1) as pool, connected(pool) as connection:
        assert await users.remove(connection, second.name)
    assert (await second.http.get("/clients")).status_code == 303


async def test_a_changed_role_counts_at_once(admin: AdminScene) -> None:
    person = await admin.person()
    await admin.scene.execute(
        "UPDATE pipeline.admin_users SET role = 'viewer' WHERE name = %s RETURNING 1", person.name
    )
    assert (await person.submit("/new-client")).status_code == 403


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example", "/\\evil.example", "/login", "javascript:1"]
)
async def test_login_leads_to_our_own_pages_only(admin: AdminScene, wanted: str) -> None:
    person = await admin.person()
    answer = await person.http.post("/login", data={"name": person.name, "password": PASSWORD, "next": wanted})
    assert answer.headers["location"] == "/"


async def test_key_opens_a_session_and_a_wrong_one_does_not(admin: AdminScene) -> None:
    admin.app.state.login_limit = limits.RateLimit()
    key = admin.settings.admin_api_key
    assert key is not None
    async with admin.http() as first:
        assert (await first.post("/login/key", data={"key": "wrong"})).status_code == 403
        assert (await first.post("/login/key", data={"key": key.get_secret_value()})).status_code == 303
        page = await first.get("/clients")
        assert page.status_code == 200
        assert key.get_secret_value() not in page.text


async def test_without_a_key_the_api_takes_no_change(stack: Stack) -> None:
    async with open_admin(stack, admin_api_key=None) as admin, admin.http(authorization="Bearer x") as program:
        assert (await program.post("/api/v1/clients", json={})).status_code == 403
        assert (await program.get("/api/v1/clients")).status_code == 403


class IdentityProvider:
    """A small OpenID provider that lets everybody in as `email`; checks what a real one checks."""

    def __init__(self, port: int) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        self.email = "jo@example.test"
        self.claims: dict[str, Any] = {}
        self._key = RSAKey.generate_key(2048, {"kid": "1"})
        self.signing_key = self._key
        self._asked: dict[str, dict[str, str]] = {}
        self.app = app = FastAPI()

        @app.get("/.well-known/openid-configuration")
        def discover() -> dict[str, str]:
            names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
            return {"issuer": self.issuer, **{name: f"{self.issuer}/{name}" for name in names}}

        @app.get("/jwks_uri")
        def keys() -> dict[str, Any]:
            return {"keys": [self._key.as_dict(private=False)]}

        @app.post("/token_endpoint")
        async def token(request: Request) -> Any:
            fields = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
            asked = self._asked.pop(fields["code"])
            challenge = base64.urlsafe_b64encode(hashlib.sha256(fields["code_verifier"].encode()).digest())
            assert asked["code_challenge"] == challenge.rstrip(b"=").decode()
            assert asked["redirect_uri"] == fields["redirect_uri"]
            now = int(time.time())
            claims = {
                "iss": self.issuer,
                "aud": asked["client_id"],
                "iat": now,
                "exp": now + 60,
                "nonce": asked["nonce"],
                "email": self.email,
                "email_verified": True,
                **self.claims,
            }
            id_token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.signing_key)
            return {"access_token": "x", "token_type": "Bearer", "id_token": id_token}

    def log_in(self, url: str) -> str:
        """What the person's browser would be sent back to."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        code = secrets.token_hex(8)
        self._asked[code] = asked
        return f"/login/answer?code={code}&state={asked['state']}"


@asynccontextmanager
async def provider() -> AsyncIterator[IdentityProvider]:
    port = ports.choose(("provider",), {})["provider"]
    found = IdentityProvider(port)
    server = uvicorn.Server(uvicorn.Config(found.app, host="127.0.0.1", port=port, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: _started(server))
    yield found
    server.should_exit = True
    await serving


async def _started(server: uvicorn.Server) -> bool:
    return server.started


@pytest.fixture(scope="module")
async def by_provider(stack: Stack) -> AsyncIterator[tuple[AdminScene, IdentityProvider]]:
    async with (
        provider() as found,
        open_admin(
            stack, admin_url="http://admin.test", oidc_issuer=found.issuer, oidc_client_id="admin-pages"
        ) as admin,
    ):
        async with open_pool(admin.scene.dsn, max_size=1) as pool, connected(pool) as connection:
            await users.put(connection, found.email, Role.VIEWER, None)
        yield admin, found


async def _attempt(admin: AdminScene, found: IdentityProvider) -> tuple[httpx.Response, Person]:
    admin.app.state.login_limit = limits.RateLimit()
    http = admin.http()
    begun = await http.get("/login/oidc?next=/audit")
    return await http.get(found.log_in(begun.headers["location"])), Person("", http, "")


async def test_whom_the_provider_and_our_users_know_is_let_in_with_our_role(
    by_provider: tuple[AdminScene, IdentityProvider],
) -> None:
    admin, found = by_provider
    answer, person = await _attempt(admin, found)
    assert (answer.status_code, answer.headers["location"]) == (303, "/audit")
    assert "viewer" in (await person.http.get("/audit")).text


@pytest.mark.parametrize(
    "claims",
    [
        {"email": "stranger@example.test"},
        {"email_verified": False},
        {"nonce": "of another login"},
        {"aud": "another program"},
        {"iss": "https://evil.example"},
        {"exp": 1},
    ],
    ids=json.dumps,
)
async def test_a_token_that_is_not_for_us_lets_nobody_in(
    by_provider: tuple[AdminScene, IdentityProvider], claims: dict[str, Any]
) -> None:
    admin, found = by_provider
    found.claims = claims
    answer, person = await _attempt(admin, found)
    found.claims = {}
    assert answer.status_code == 403
    assert (await person.http.get("/audit")).status_code == 303


async def test_a_token_signed_by_somebody_else_lets_nobody_in(
    by_provider: tuple[AdminScene, IdentityProvider],
) -> None:
    admin, found = by_provider
    right, found.signing_key = found.signing_key, RSAKey.generate_key(2048, {"kid": "1"})
    answer, _ = await _attempt(admin, found)
    found.signing_key = right
    assert answer.status_code == 403


async def test_an_answer_that_another_browser_asked_for_lets_nobody_in(
    by_provider: tuple[AdminScene, IdentityProvider],
) -> None:
    admin, found = by_provider
    async with admin.http() as first, admin.http() as second:
        begun = await first.get("/login/oidc")
        path = found.log_in(begun.headers["location"])
        assert (await second.get(path)).status_code == 403
        assert (await first.get(path)).status_code == 303
        assert (await first.get(path)).status_code == 403
