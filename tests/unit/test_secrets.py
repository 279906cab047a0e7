from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError, PermanentError
from pipeline.secrets import SecretBox

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@given(st.text())
def test_decrypt_is_the_inverse_of_encrypt(text: str) -> None:
    box = SecretBox([NEW, OLD])
    assert box.decrypt(box.encrypt(text)) == text


def test_old_key_still_decrypts_and_rotation_needs_the_new_one_only() -> None:
    token = SecretBox([OLD]).encrypt("s3-secret")
    both = SecretBox([NEW, OLD])
    assert both.decrypt(token) == "s3-secret"
    assert SecretBox([NEW]).decrypt(both.rotate(token)) == "s3-secret"


def test_rotation_leaves_what_is_under_the_first_key_as_it_is() -> None:
    both = SecretBox([NEW, OLD])
    rotated = both.rotate(SecretBox([OLD]).encrypt("s3-secret"))
    assert both.rotate(rotated) == rotated


@pytest.mark.parametrize("token", ["", "plain secret", "gAAAAA-ü"])
def test_unreadable_token_is_permanent_and_not_quoted(token: str) -> None:
    box = SecretBox([NEW])
    for call in (box.decrypt, box.rotate):
        with pytest.raises(PermanentError) as caught:
            call(token)
        assert "CREDENTIALS_KEYS" in caught.value.hint
        assert not token or token not in str(caught.value)
        assert caught.value.__suppress_context__


def test_token_of_a_lost_key_is_permanent() -> None:
    with pytest.raises(PermanentError):
        SecretBox([NEW]).decrypt(SecretBox([OLD]).encrypt("x"))


@pytest.mark.parametrize("keys", [[], [""], ["too-short"], [NEW, "ключ"], [NEW[:-5]]])
def test_malformed_keys_name_the_variable_and_not_the_key(keys: list[str]) -> None:
    with pytest.raises(ConfigError, match="CREDENTIALS_KEYS") as caught:
        SecretBox(keys)
    assert not any(key and key in str(caught.value) for key in keys)
