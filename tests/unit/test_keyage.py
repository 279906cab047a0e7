"""The age of clients' secrets, read from the tokens that hold them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from pipeline import keyage
from pipeline.clients import Client, ClientId, PrivacyLevel, PseudonymKey
from pipeline.secrets import SecretBox

MADE = 1_780_000_000
FERNET = Fernet(Fernet.generate_key())


def token(at: int) -> str:
    return FERNET.encrypt_at_time(b"secret", at).decode()


def client(name: str, *, active: bool = True, keys: tuple[int, ...] = (), bucket: int | None = None) -> Client:
    return Client(
        client_id=ClientId(name),
        privacy_level=PrivacyLevel.GDPR,
        is_active=active,
        pseudonym_keys=tuple(PseudonymKey(version=n, secret=token(at)) for n, at in enumerate(keys, 1)),
        client_s3_secret_key=token(bucket) if bucket else "",
        created_at=datetime.now(UTC),
        updated_at=datetime.now(UTC),
    )


def test_age_is_that_of_the_key_in_use_not_of_those_that_it_replaced() -> None:
    clients = [client("a", keys=(MADE - 900, MADE - 50)), client("b", keys=(MADE - 100,), bucket=MADE - 7)]
    assert keyage.oldest(clients) == {"pseudonym": MADE - 100, "bucket": MADE - 7}


def test_inactive_clients_and_clients_without_secrets_do_not_count() -> None:
    assert keyage.oldest([client("a", active=False, keys=(MADE,)), client("b")]) == {"pseudonym": None, "bucket": None}


def test_gauge_shows_the_age_and_falls_to_zero_without_keys() -> None:
    keyage.show([client("a", keys=(MADE,))], MADE + 30.0)
    assert REGISTRY.get_sample_value("client_key_age_seconds", {"kind": "pseudonym"}) == 30
    keyage.show([], MADE + 30.0)
    assert REGISTRY.get_sample_value("client_key_age_seconds", {"kind": "pseudonym"}) == 0


def test_rotating_the_credentials_keys_makes_no_secret_younger() -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    before = Fernet(old).encrypt_at_time(b"secret", MADE).decode()
    assert keyage.made_at(SecretBox([new, old]).rotate(before)) == MADE


@given(st.text(max_size=30))
def test_what_is_no_token_has_no_age(text: str) -> None:
    assert keyage.made_at(text) is None or text.startswith("gA")


@pytest.mark.parametrize("text", ["", "plain", "gAAAAA", "AAAAAAAAAAAAAAAAA"])
def test_short_and_foreign_texts_have_no_age(text: str) -> None:
    assert keyage.made_at(text) is None
