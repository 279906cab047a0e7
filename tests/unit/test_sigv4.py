"""Our signature against botocore's, for any key, header and credentials; and where requests go against botocore's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError
from hypothesis import given
from hypothesis import strategies as st

from pipeline.s3_direct import address_of
from pipeline.sigv4 import EMPTY_SHA256, UNSIGNED, Keys, encode_path, sign

NOW = datetime(2026, 11, 23, 5, 6, 7, tzinfo=UTC)
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126))


def by_botocore(
    method: str, url: str, headers: dict[str, str], payload_sha256: str, keys: Keys, region: str
) -> dict[str, str]:
    class Fixed(S3SigV4Auth):  # type: ignore[misc]
        def payload(self, request: Any) -> str:
            return payload_sha256

    request = AWSRequest(method, url, dict(headers), b"")
    credentials = Credentials(keys.access_key, keys.secret_key, keys.token)
    with patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        Fixed(credentials, "s3", region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@given(
    key=st.text(min_size=1).filter(lambda key: "\x00" not in key),
    metadata=st.dictionaries(st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True), PRINTABLE, max_size=3),
    token=st.none() | st.from_regex(r"[A-Za-z0-9/+=]{1,20}", fullmatch=True),
    port=st.sampled_from(["", ":9000"]),
    query=st.sampled_from(["", "partNumber=3&uploadId=a%2Bb"]),
    payload=st.sampled_from([EMPTY_SHA256, UNSIGNED]),
)
def test_signature_is_that_of_botocore_for_any_key_and_header(
    key: str, metadata: dict[str, str], token: str | None, port: str, query: str, payload: str
) -> None:
    try:
        path = "/bucket/" + encode_path(key)
    except UnicodeEncodeError:
        return  # half of a surrogate pair: no key
    keys = Keys(access_key="AKIAEXAMPLE", secret_key="a/secret+", token=token)
    headers = {
        "content-type": "application/x-ndjson",
        **{f"x-amz-meta-{name}": text for name, text in metadata.items()},
    }
    host = f"s3.eu-central-1.example{port}"
    ours = sign(
        method="PUT",
        host=host,
        path=path,
        query=query,
        headers=headers,
        payload_sha256=payload,
        keys=keys,
        region="eu-central-1",
        now=NOW,
    )
    url = f"https://{host}{path}" + (f"?{query}" if query else "")
    theirs = by_botocore("PUT", url, headers, payload, keys, "eu-central-1")
    assert ours["authorization"] == theirs["authorization"]
    assert set(ours) == set(theirs)


def test_keys_never_show_their_secrets() -> None:
    assert "hidden" not in repr(Keys(access_key="a", secret_key="hidden", token="hidden"))


@pytest.mark.parametrize(
    ("bucket", "region", "endpoint", "base", "path", "signed_for"),
    [
        ("b-1", "eu-central-1", None, "https://b-1.s3.eu-central-1.amazonaws.com", "/", "eu-central-1"),
        ("b.1", "eu-central-1", None, "https://s3.eu-central-1.amazonaws.com", "/b.1/", "eu-central-1"),
        ("b-1", "cn-north-1", None, "https://b-1.s3.cn-north-1.amazonaws.com.cn", "/", "cn-north-1"),
        ("b-1", "us-east-1", "http://127.0.0.1:4566", "http://127.0.0.1:4566", "/b-1/", "us-east-1"),
        ("b-1", "auto", "https://store.example:9000/base", "https://store.example:9000", "/base/b-1/", "auto"),
    ],
)  # fmt: skip
async def test_bucket_is_where_botocore_says(
    bucket: str, region: str, endpoint: str | None, base: str, path: str, signed_for: str
) -> None:
    found = await address_of(bucket, region=region, endpoint_url=endpoint)
    assert found is not None
    assert (found.base, found.path, found.region) == (base, path, signed_for)
    assert found.host == base.partition("://")[2]


async def test_names_that_botocore_refuses_have_no_address() -> None:
    with pytest.raises(BotoCoreError):
        await address_of("no bucket at all/", region="us-east-1", endpoint_url=None)


def test_what_is_reserved_in_a_url_is_encoded_once() -> None:
    assert encode_path("a b/ü+%2F~?#") == quote("a b/ü+%2F~?#", safe="/~") == "a%20b/%C3%BC%2B%252F~%3F%23"
