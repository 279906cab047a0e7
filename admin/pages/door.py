"""Logging in and out."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response

from admin import passwords
from admin.guard import Guard
from admin.identity import KEY_ACTOR, Identity, Role
from admin.ledger import sessions, users
from admin.limits import RateLimit
from admin.oidc import LoginRefusedError, Provider
from admin.pages.render import Form, TheDesk, Who, render, see_other
from admin.problems import Problem
from database.ledger import connected
from pipeline import logs

router = APIRouter()
log = logs.get(__name__)

_STATE_COOKIE = "login-state"
_WRONG = "Name or password is wrong."
_LOCKED = "Too many wrong passwords: the account is closed for a quarter of an hour."


@router.get("/login")
async def login_page(request: Request, desk: TheDesk) -> Response:
    """The form."""
    if getattr(request.state, "identity", None) is not None:
        return see_other(_own_path(request.query_params.get("next")))
    return _form_again(request, desk, "")


@router.post("/login")
async def login(request: Request, desk: TheDesk, form: Form) -> Response:
    """By name and password. Says as much, and takes as long, for an unknown name as for a wrong password."""
    if not _admitted(request):
        return _form_again(request, desk, "Too many tries. Wait a minute.", status=429)
    name, password = str(form.get("name", ""))[:200], str(form.get("password", ""))
    async with connected(desk.pool) as connection:
        user = await users.find(connection, name)
    right = await passwords.verify(user.password_hash if user else None, password)
    if user is not None and user.locked:
        return _form_again(request, desk, _LOCKED, status=403)
    if user is None or not right:
        if user is not None:
            async with connected(desk.pool) as connection:
                locked = await users.note_failure(connection, user.name)
            if locked:
                log.warning("admin.account.locked", user=user.name)
                await desk.note(Identity(name=user.name, role=Role.VIEWER), "login.locked", None, {})
        return _form_again(request, desk, _WRONG, status=403)
    async with connected(desk.pool) as connection:
        await users.note_success(connection, user.name)
        token = await sessions.begin(connection, user_name=user.name)
    await desk.note(Identity(name=user.name, role=user.role), "login.succeeded", None, {"by": "password"})
    return _let_in(request, token, str(form.get("next", "")))


@router.post("/login/key")
async def login_by_key(request: Request, desk: TheDesk, form: Form) -> Response:
    """By the admin key: for the first admin, and when all others are locked out."""
    if not _admitted(request):
        return _form_again(request, desk, "Too many tries. Wait a minute.", status=429)
    key = desk.settings.admin_api_key
    given = str(form.get("key", ""))
    if key is None or not hmac.compare_digest(given.encode(), key.get_secret_value().encode()):
        return _form_again(request, desk, "The key is wrong.", status=403)
    async with connected(desk.pool) as connection:
        token = await sessions.begin(connection, user_name=None, key=given)
    await desk.note(Identity(name=KEY_ACTOR, role=Role.ADMIN), "login.succeeded", None, {"by": "key"})
    return _let_in(request, token, str(form.get("next", "")))


@router.get("/login/oidc")
async def login_by_provider(request: Request, desk: TheDesk) -> Response:
    """Send the browser to the OpenID provider."""
    provider = _provider(request)
    if not _admitted(request):
        return _form_again(request, desk, "Too many tries. Wait a minute.", status=429)
    url, state = await provider.begin(_own_path(request.query_params.get("next")))
    response = see_other(url)
    # Whoever comes back has to be the browser that went, or somebody could log others in as themselves.
    response.set_cookie(
        _STATE_COOKIE, state, max_age=600, httponly=True, samesite="lax", secure=request.url.scheme == "https"
    )
    return response


@router.get("/login/answer")
async def provider_answered(request: Request, desk: TheDesk) -> Response:
    """The browser comes back from the provider."""
    provider = _provider(request)
    state, code = request.query_params.get("state", ""), request.query_params.get("code", "")
    try:
        if not state or not hmac.compare_digest(state.encode(), request.cookies.get(_STATE_COOKIE, "").encode()):
            raise LoginRefusedError("another browser has begun this login")
        email, path = await provider.finish(state, code)
    except LoginRefusedError as error:
        log.warning("admin.login.refused", reason=str(error))
        return _form_again(request, desk, "The login at the provider did not succeed. Try again.", status=403)
    async with connected(desk.pool) as connection:
        user = await users.find(connection, email)
        token = await sessions.begin(connection, user_name=user.name) if user else ""
    if user is None:
        return _form_again(request, desk, "You are known to the provider, but not here: ask an admin.", status=403)
    await desk.note(Identity(name=user.name, role=user.role), "login.succeeded", None, {"by": "oidc"})
    response = _let_in(request, token, path)
    response.delete_cookie(_STATE_COOKIE)
    return response


@router.post("/logout")
async def logout(request: Request, desk: TheDesk, who: Who) -> Response:
    """End the session, everywhere."""
    async with connected(desk.pool) as connection:
        await sessions.end(connection, who.token)
    response = see_other("/login")
    _guard(request).forget(response)
    return response


def _form_again(request: Request, desk: TheDesk, error: str, *, status: int = 200) -> Response:
    values = {"error": error, "next": _own_path(request.query_params.get("next"))}
    return render(
        request,
        "login.html",
        status=status,
        by_provider=desk.settings.oidc_issuer is not None,
        by_key=desk.settings.admin_api_key is not None,
        **values,
    )


def _let_in(request: Request, token: str, path: str) -> Response:
    response = see_other(_own_path(path))
    _guard(request).keep(response, token)
    return response


def _own_path(path: str | None) -> str:
    """`path` if it leads to one of our pages, else the first page: nobody sends people elsewhere through our login."""
    if not path or not path.startswith("/") or path.startswith(("//", "/\\", "/login")) or not path.isprintable():
        return "/"
    parts = urlsplit(path)
    return path if not parts.scheme and not parts.netloc and "\\" not in path else "/"


def _admitted(request: Request) -> bool:
    limit: RateLimit = request.app.state.login_limit
    return limit.admit(request.client.host if request.client else "")


def _provider(request: Request) -> Provider:
    provider: Provider | None = request.app.state.provider
    if provider is None:
        raise Problem(404, "there is no OpenID provider: OIDC_ISSUER is not set")
    return provider


def _guard(request: Request) -> Guard:
    guard: Guard = request.state.guard
    return guard
