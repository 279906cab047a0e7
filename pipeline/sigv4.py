"""Signature Version 4 of a request to S3, in the `Authorization` header. Pure: the time is passed in.

For the two requests of which there are many (`pipeline.s3_direct`). botocore signs just so, among much else.
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"
"""In place of the body's digest: for a body that another header vouches for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What signs. `token` goes with the keys of a role."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


def encode_path(path: str) -> str:
    """`path` as it stands in a URL and in what is signed: all but unreserved characters and slashes in percent."""
    return quote(path, safe="/~")


def sign(
    *,
    method: str,
    host: str,
    path: str,
    query: str = "",
    headers: Mapping[str, str],
    payload_sha256: str,
    keys: Keys,
    region: str,
    now: datetime,
) -> dict[str, str]:
    """`headers` with those that the signature adds; all of them are signed.

    `path` and `query` are encoded already, the query's members in order; `host` is as the connection will name it;
    names of `headers` are in lower case. `now` is in UTC. `payload_sha256` is in hexadecimal, or UNSIGNED.
    """
    time = now.strftime("%Y%m%dT%H%M%SZ")
    found = {**headers, "x-amz-content-sha256": payload_sha256, "x-amz-date": time}
    if keys.token:
        found["x-amz-security-token"] = keys.token
    signed = sorted([*found.items(), ("host", host)])
    names = ";".join([name for name, _ in signed])
    lines = "".join([f"{name}:{' '.join(value.split())}\n" for name, value in signed])
    request = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{payload_sha256}"
    scope = f"{time[:8]}/{region}/s3/aws4_request"
    text = f"{ALGORITHM}\n{time}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = _hmac(_key(keys.secret_key, time[:8], region), text).hex()
    found["authorization"] = (
        f"{ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return found


@lru_cache(maxsize=128)
def _key(secret: str, day: str, region: str) -> bytes:
    """The same for a whole day."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
