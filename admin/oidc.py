"""Log in by an OpenID provider: authorization code with PKCE. https://openid.net/specs/openid-connect-core-1_0.html

The provider says who somebody is, our table of users whether they may come in and as what: `python -m admin user add
jane@example.com --role viewer --oidc`. So whoever has an account at the provider isn't let in by that alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus

import httpx
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from admin.ledger import sessions
from admin.settings import AdminSettings
from database.ledger import Pool, connected
from pipeline import logs
from pipeline.errors import PermanentError, TransientError

log = logs.get(__name__)

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_LEEWAY_SECONDS = 60
_TIMEOUT_SECONDS = 10.0


class LoginRefusedError(PermanentError):
    """The provider, or what it sent, doesn't let this person in. The text is for the log, not for the person."""


class Provider:
    """The OpenID provider of OIDC_ISSUER; what it publishes about itself is asked once."""

    def __init__(self, settings: AdminSettings, pool: Pool) -> None:
        assert settings.oidc_issuer
        assert settings.admin_url
        self._issuer = settings.oidc_issuer
        self._client_id = settings.oidc_client_id
        self._secret = settings.oidc_client_secret
        self._answer_url = f"{settings.admin_url}/login/answer"
        self._pool = pool
        self._metadata: Mapping[str, Any] | None = None

    async def begin(self, path: str) -> tuple[str, str]:
        """Where to send the browser, and the state that it has to come back with. `path`: where to go afterwards."""
        metadata = await self._discover()
        verifier, nonce = secrets.token_urlsafe(48), secrets.token_urlsafe(24)
        state = secrets.token_urlsafe(24)
        url = prepare_grant_uri(
            metadata["authorization_endpoint"],
            self._client_id,
            "code",
            redirect_uri=self._answer_url,
            scope="openid email",
            state=state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
        )
        async with connected(self._pool) as connection:
            await sessions.wait_for_provider(connection, state=state, verifier=verifier, nonce=nonce, path=path)
        return str(url), state

    async def finish(self, state: str, code: str) -> tuple[str, str]:
        """The verified address of who has logged in, and where they wanted to go. Raises LoginRefusedError."""
        async with connected(self._pool) as connection:
            waiting = await sessions.take_login(connection, state)
        if waiting is None:
            raise LoginRefusedError("nobody has begun this login, or too long ago")
        verifier, nonce, path = waiting
        metadata = await self._discover()
        try:
            token = await self._exchange(metadata["token_endpoint"], code, verifier)
            keys = KeySet.import_key_set(await self._get(metadata["jwks_uri"]))
            claims = jwt.decode(str(token["id_token"]), keys, algorithms=_ALGORITHMS).claims
            self._check(claims, nonce)
        except (JoseError, KeyError, ValueError) as error:
            raise LoginRefusedError(f"the provider's token is not valid ({type(error).__name__})") from error
        except httpx.HTTPError as error:
            raise TransientError(f"the OpenID provider does not answer ({type(error).__name__})") from error
        return str(claims["email"]), path

    def _check(self, claims: Mapping[str, Any], nonce: str) -> None:
        registry = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._client_id},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
            email={"essential": True},
        )
        registry.validate(dict(claims))
        if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and claims.get("azp") != self._client_id:
            raise ValueError("the token is for somebody else")
        if claims.get("email_verified") is not True:
            raise ValueError("the address is not verified")

    async def _exchange(self, url: str, code: str, verifier: str) -> Mapping[str, Any]:
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._answer_url,
            "code_verifier": verifier,
        }
        if self._secret is None:
            fields["client_id"] = self._client_id
        # RFC 6749, section 2.3.1: both are form-encoded first.
        auth = None
        if self._secret is not None:
            auth = httpx.BasicAuth(quote_plus(self._client_id), quote_plus(self._secret.get_secret_value()))
        async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS) as client:
            answer = await client.post(url, data=fields, auth=auth or httpx.USE_CLIENT_DEFAULT)
        if answer.status_code in (400, 401):
            raise LoginRefusedError(f"the provider refused the code ({answer.status_code})")
        answer.raise_for_status()
        token: Mapping[str, Any] = answer.json()
        return token

    async def _discover(self) -> Mapping[str, Any]:
        if self._metadata is None:
            try:
                found = await self._get(f"{self._issuer}/.well-known/openid-configuration")
            except httpx.HTTPError as error:
                raise TransientError(f"the OpenID provider does not answer ({type(error).__name__})") from error
            except ValueError as error:
                raise TransientError("the OpenID provider does not describe itself") from error
            if str(found.get("issuer", "")).rstrip("/") != self._issuer:
                raise LoginRefusedError("OIDC_ISSUER is wrong: the provider calls itself otherwise")
            self._metadata = {**found}
        return self._metadata

    async def _get(self, url: str) -> Any:
        async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS) as client:
            answer = await client.get(url)
            answer.raise_for_status()
            return answer.json()
