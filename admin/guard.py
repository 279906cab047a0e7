"""Stands before every route: without session or key only what is listed in PUBLIC is reached.

A guard that each route has to ask for is forgotten one day; this one has to be told what to leave open. It reads the
bodies of forms too: a change by a page needs the session's form token (CSRF), and comes from our own pages.
"""

from __future__ import annotations

import hmac
from urllib.parse import parse_qs, quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin import problems
from admin.identity import KEY_ACTOR, Identity, Role
from admin.ledger import sessions
from admin.problems import Problem
from database.ledger import Pool, connected
from pipeline.errors import PipelineError

OPERATIONS = frozenset(("/healthz", "/readyz", "/metrics", "/status", "/pipeline/status"))
"""For probes and monitoring: counts and lags, no client's data. docs/admin.md names them."""

DOORS = frozenset(("/login", "/login/key", "/login/oidc", "/login/answer"))
"""Where people prove who they are."""

API = "/api/"
_ASSETS = "/static/"
_MOST_BODY_BYTES = 256 * 1024
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def is_open(path: str) -> bool:
    """Whether anybody may reach `path`."""
    return path in OPERATIONS or path in DOORS or path.startswith(_ASSETS)


class Guard:
    """ASGI middleware. `scope["state"]["identity"]` is who asks; absent on open paths without session."""

    def __init__(self, app: ASGIApp, *, pool: Pool, key: str, admin_url: str | None) -> None:
        self._app = app
        self._pool = pool
        self._key = key
        self._secure = (admin_url or "").startswith("https://")
        self._origin = _origin(admin_url) if admin_url else None

    @property
    def cookie(self) -> str:
        """The session cookie's name; browsers keep `__Host-` ones from other hosts and from http."""
        return "__Host-session" if self._secure else "session"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return
        scope.setdefault("state", {})
        scope["state"]["guard"] = self
        send = self._with_headers(scope["path"], send)
        headers = Headers(scope=scope)
        try:
            identity = await self._identify(scope, headers)
            if identity is not None:
                scope["state"]["identity"] = identity
            receive = await self._admit(scope, headers, identity, receive)
        except Problem as problem:
            await self._refuse(problem, scope, headers)(scope, receive, send)
        except PipelineError as error:
            await self._refuse(Problem(503, str(error)), scope, headers)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def keep(self, response: Response, token: str) -> None:
        """Give the browser a session."""
        response.set_cookie(
            self.cookie, token, max_age=sessions.LONGEST_SECONDS, httponly=True, samesite="lax", secure=self._secure
        )

    def forget(self, response: Response) -> None:
        """Take the session's cookie away."""
        response.delete_cookie(self.cookie, httponly=True, samesite="lax", secure=self._secure)

    async def _identify(self, scope: Scope, headers: Headers) -> Identity | None:
        given = headers.get("authorization")
        if given is not None:
            if not self._key:
                raise Problem(403, "ADMIN_API_KEY is not configured: the API takes no key")
            scheme, _, secret = given.partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(secret.encode(), self._key.encode()):
                raise Problem(401, "Authorization: Bearer ADMIN_API_KEY is needed")
            return Identity(name=KEY_ACTOR, role=Role.ADMIN)
        token = cookie_parser(headers.get("cookie", "")).get(self.cookie)
        if not token or scope["path"] in OPERATIONS or scope["path"].startswith(_ASSETS):
            return None
        async with connected(self._pool) as connection:
            return await sessions.find(connection, token, self._key)

    async def _admit(self, scope: Scope, headers: Headers, identity: Identity | None, receive: Receive) -> Receive:
        path, method = scope["path"], scope["method"]
        if path in OPERATIONS and method in _SAFE:
            return receive
        if path.startswith(API):
            if method not in _SAFE and not self._key:
                raise Problem(403, "ADMIN_API_KEY is not configured: the API takes no changes")
            if identity is None or (method not in _SAFE and identity.token):
                raise Problem(401, "Authorization: Bearer ADMIN_API_KEY is needed")
            return receive if method in _SAFE else _replay(await _body(headers, receive), receive)
        if identity is None and not is_open(path):
            raise Problem(401, "log in first")
        if method in _SAFE:
            return receive
        self._same_site(headers)
        body = await _body(headers, receive)
        if path in DOORS:
            return _replay(body, receive)
        if identity is None or not identity.token:
            raise Problem(403, "the pages take changes from a session, the API takes them with the key")
        given = headers.get("x-form-token") or parse_qs(body.decode("latin-1")).get("form_token", [""])[0]
        if not hmac.compare_digest(given.encode(), identity.form_token.encode()):
            raise Problem(403, "this form is not from your session: load the page again")
        if not identity.may_change and path != "/logout":
            raise Problem(403, "you may look, not change: ask an admin")
        return _replay(body, receive)

    def _same_site(self, headers: Headers) -> None:
        """A form's answer comes from our own pages; every browser of the last years says so."""
        site = headers.get("sec-fetch-site")
        origin = headers.get("origin")
        own = self._origin or _origin(f"http://{headers.get('host', '')}")
        strange = origin is not None and urlsplit(origin).netloc != urlsplit(own).netloc
        if strange or site not in (None, "same-origin", "none"):
            raise Problem(403, "this form was sent from another site")

    def _refuse(self, problem: Problem, scope: Scope, headers: Headers) -> Response:
        path = scope["path"]
        if path.startswith(API):
            extra = {"www-authenticate": "Bearer"} if problem.status == 401 else None
            return problems.response(problem, extra)
        if problem.status == 401 and headers.get("authorization") is None:
            if headers.get("hx-request"):
                return Response(status_code=401, headers={"hx-redirect": "/login"})
            if scope["method"] in _SAFE:
                query = scope["query_string"].decode("latin-1")
                wanted = path + (f"?{query}" if query else "")
                return RedirectResponse("/login" + (f"?next={quote(wanted)}" if wanted != "/" else ""), 303)
        return Response(f"{problem.detail}\n", problem.status, media_type="text/plain")

    def _with_headers(self, path: str, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if self._secure:
                    headers.setdefault("strict-transport-security", "max-age=31536000")
                caching = "public, max-age=31536000, immutable" if path.startswith(_ASSETS) else "no-store"
                headers.setdefault("cache-control", caching)
            await send(message)

        return sending


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


async def _body(headers: Headers, receive: Receive) -> bytes:
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > _MOST_BODY_BYTES:
        raise Problem(413, f"at most {_MOST_BODY_BYTES} bytes are taken")
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "the connection ended")
        parts.append(message.get("body", b""))
        if sum(map(len, parts)) > _MOST_BODY_BYTES:
            raise Problem(413, f"at most {_MOST_BODY_BYTES} bytes are taken")
        more = message.get("more_body", False)
    return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """What the application receives instead of the connection: first the body that was read."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> Message:
        return pending.pop() if pending else await receive()

    return receiving
