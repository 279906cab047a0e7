"""Would a delivery work? Tried step by step as a delivery does it, and told in words. PutObject is all that it needs.

The last step writes one small object under the client's prefix; it is overwritten by the next test and never deleted,
because deliveries may not delete.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import aiohttp
from botocore.exceptions import ClientError

from pipeline.addresses import PublicResolver
from pipeline.clients import Client
from pipeline.destination.access import ClientAccess, missing_settings
from pipeline.destination.refusals import ClientBucketError, code_of, refusal
from pipeline.errors import PipelineError, TransientError
from pipeline.s3 import BucketAccess, ObjectStore, digest, open_bucket

TEST_KEY = "connection-test.txt"
"""Below the client's prefix, beside `events/` and `manifests/`: no reader of deliveries looks there."""

TEST_BODY = b"The event pipeline wrote this to test whether it may deliver here. It holds no data and may be deleted.\n"

_ANONYMOUS_SECONDS = 5.0
_SKEW_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was tried. `ok` is None when an earlier step has already failed."""

    name: str
    ok: bool | None
    code: str = ""
    """For machines: the service's word, or ours."""
    explanation: str = ""
    what_to_do: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionReport:
    """What a test found. Holds no key and no secret."""

    client_id: str
    ok: bool
    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()

    def to_document(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


async def test_connection(client: Client, access: ClientAccess) -> ConnectionReport:
    """Try the client's bucket, also of a client that is not stored yet. Never raises a PipelineError."""
    trial = _Trial(client, access)
    await trial.run()
    return ConnectionReport(
        client_id=client.client_id,
        ok=all(step.ok for step in trial.steps),
        steps=tuple(trial.steps),
        warnings=tuple(trial.warnings),
    )


class _Trial:
    def __init__(self, client: Client, access: ClientAccess) -> None:
        self._client = client
        self._access = access
        self._bucket_access: BucketAccess | None = None
        self.steps: list[Step] = []
        self.warnings: list[str] = []

    async def run(self) -> None:
        works: tuple[tuple[str, Callable[[], Awaitable[str]]], ...] = (
            ("settings", self._settings),
            ("credentials", self._credentials),
            ("write", self._write),
        )
        failed = False
        for name, work in works:
            if failed:
                self.steps.append(Step(name=name, ok=None, explanation="not tried"))
                continue
            try:
                said = await work()
            except PipelineError as error:
                failed = True
                words = Step(
                    name=name, ok=False, code=code_of(error), explanation=str(error.args[0]), what_to_do=error.hint
                )
                self.steps.append(words)
            else:
                self.steps.append(Step(name=name, ok=True, explanation=said))

    async def _settings(self) -> str:
        if missing := missing_settings(self._client):
            raise ClientBucketError("SettingsMissing", missing, hint="complete the client's settings")
        await self._access.check_place(self._client)
        return "bucket, prefix and endpoint are usable"

    async def _credentials(self) -> str:
        self._bucket_access = await self._access.sign_in(self._client)
        if self._client.client_s3_role_arn:
            if not self._client.client_s3_external_id:
                self.warnings.append(
                    "the role has no external id: whoever else may assume roles through this pipeline could name it too"
                )
            return "the role was assumed"
        return "the stored keys can be read"

    async def _write(self) -> str:
        assert self._bucket_access is not None
        async with open_bucket(self._bucket_access) as bucket:
            key = self._client.client_s3_prefix + TEST_KEY
            try:
                await _put(bucket, key)
            except PipelineError as error:
                raise await self._explained(error, bucket, key) from error.__cause__  # which has the service's code
            await self._look_for_strangers(bucket, key)
        return f"s3://{bucket.bucket}/{key} was written"

    async def _explained(self, error: PipelineError, bucket: ObjectStore, key: str) -> PipelineError:
        """`error` of the test's PUT, and what can be found out beyond the code."""
        words = refusal(error, f"s3://{bucket.bucket}/{key}")
        code = code_of(error)
        if code == "RequestTimeTooSkewed":
            return _skewed(error, words)
        if code != "AccessDenied":
            return words
        access = bucket.access
        if access.bucket_owner and await _may_look(replace(access, bucket_owner=None)) and not await _may_look(access):
            return ClientBucketError(
                "WrongBucketOwner",
                "the bucket belongs to another account than the client's settings expect",
                hint="correct the expected owner (an account number of 12 digits), or the bucket's name",
            )
        if access.kms_key and await _writes(replace(access, kms_key=None), key):
            return ClientBucketError(
                "KmsAccessDenied",
                "the bucket takes objects, but not under the client's KMS key",
                hint="the KMS key's policy must allow kms:GenerateDataKey (and kms:Decrypt for files in parts) to the"
                " key or role",
            )
        return words

    async def _look_for_strangers(self, bucket: ObjectStore, key: str) -> None:
        """Warn when anybody can read what was just written, or list the bucket."""
        for what, path in (("read", quote(key)), ("list", "?list-type=2&max-keys=0")):
            if await _anonymous_status(bucket, path) == 200:
                self.warnings.append(
                    f"the bucket is public: anybody can {what} it without a key; block public access before deliveries"
                )


async def _put(bucket: ObjectStore, key: str) -> None:
    await bucket.put(key, TEST_BODY, sha256=digest(TEST_BODY), metadata={}, content_type="text/plain")


async def _writes(access: BucketAccess, key: str) -> bool:
    async with open_bucket(access) as bucket:
        try:
            await _put(bucket, key)
        except PipelineError:
            return False
    return True


async def _may_look(access: BucketAccess) -> bool:
    async with open_bucket(access) as bucket:
        try:
            await bucket.check()
        except PipelineError:
            return False
    return True


async def _anonymous_status(bucket: ObjectStore, path: str) -> int | None:
    """What a stranger's GET is answered; None when nothing comes back."""
    timeout = aiohttp.ClientTimeout(total=_ANONYMOUS_SECONDS)
    connector = aiohttp.TCPConnector(resolver=PublicResolver() if bucket.access.public_only else None)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get(f"{bucket.url}/{path}", allow_redirects=False) as answer,
        ):
            return answer.status
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


def _skewed(error: PipelineError, words: PipelineError) -> PipelineError:
    """How far the clocks are apart, by the answer's own date."""
    cause = error.__cause__
    headers = (
        cause.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}) if isinstance(cause, ClientError) else {}
    )
    try:
        seconds = (parsedate_to_datetime(headers.get("date", "")) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return words
    if abs(seconds) < _SKEW_SECONDS:
        return words
    which = "behind" if seconds > 0 else "ahead of"
    return TransientError(
        f"this machine's clock is {abs(seconds) / 60:.0f} minutes {which} that of the bucket's service"
        " [RequestTimeTooSkewed]",
        hint=words.hint,
    )
