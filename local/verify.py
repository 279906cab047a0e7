"""Checks every client's bucket against the record of the traffic, as the client would: with its own key, by manifest.

`python -m local.verify --clients D/clients.json --record FILE`: exit status 0 when each row arrived exactly once, at
its owner, filtered as its owner's level demands.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import hashlib
import json
import sys
import tempfile
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from local.traffic_record import read_record
from local.verify_compare import Comparison, Expectation, Tally
from local.verify_manifest import File, Manifest, ManifestError, files_of, manifest_key, read_manifest
from pipeline.clients import PrivacyLevel
from pipeline.errors import TransientError

_BLOCK_BYTES = 1 << 20
_IN_MEMORY_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A client's bucket as its owner reaches it; a member of `clients.json`."""

    client_id: str
    privacy_level: PrivacyLevel
    bucket: str
    region: str
    endpoint_url: str | None
    prefix: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    consent_mode: str = "strip"
    ip_collection_enabled: bool = True

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Access:
        """Members that are none of ours are ignored. Raises KeyError or ValueError."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        return cls(**{**known, "privacy_level": PrivacyLevel(values["privacy_level"])})

    @property
    def expectation(self) -> Expectation:
        """What the comparison has to know."""
        return Expectation(
            client_id=self.client_id,
            level=self.privacy_level,
            may_drop=self.consent_mode == "drop",
            keeps_ip=self.ip_collection_enabled,
        )


def read_accesses(path: Path) -> list[Access]:
    """The clients of `clients.json`."""
    return [Access.from_json(item) for item in json.loads(path.read_text())]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result by client."""

    tallies: Mapping[str, Tally]

    @property
    def ok(self) -> bool:
        """No client has a fault, and there was something to check."""
        return all(tally.ok for tally in self.tallies.values()) and any(t.inserted for t in self.tallies.values())


async def verify(record: Path, clients: Path) -> Verdict:
    """`verify_buckets` for the clients of the file `clients`, the embedded stack's `clients.json`."""
    return await verify_buckets(record, await asyncio.to_thread(read_accesses, clients))


async def verify_buckets(record: Path, accesses: Sequence[Access]) -> Verdict:
    """The tally of each client of `accesses`, and of each that the record names beside them.

    Objects that can't be read are counted as `broken`. Raises TransientError when a store does not answer, OSError for
    the record.
    """
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        comparison = Comparison(Path(folder) / "record.sqlite", [access.expectation for access in accesses])
        try:
            await asyncio.to_thread(lambda: comparison.load(read_record(record)))
            for access in accesses:  # one after the other: the work is done by one core anyway
                async with _bucket(access) as bucket:
                    await _check_client(bucket, access, comparison)
            return Verdict(await asyncio.to_thread(comparison.result))
        finally:
            comparison.close()


class _Bucket:
    """The little of S3 that a reader needs."""

    def __init__(self, client: Any, name: str) -> None:
        self._client, self._name = client, name

    async def read(self, key: str, into: IO[bytes]) -> str | None:
        """The object into a file; returns the sha256, None when there is no such object."""
        digest = hashlib.sha256()
        try:
            answer = await self._client.get_object(Bucket=self._name, Key=key)
            async with answer["Body"] as body:
                while block := await body.read(_BLOCK_BYTES):
                    digest.update(block)
                    await asyncio.to_thread(into.write, block)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise
        into.seek(0)
        return digest.hexdigest()

    async def get(self, key: str) -> bytes | None:
        """A small object."""
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as file:
            return file.read() if await self.read(key, file) is not None else None

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        """All keys below `prefix`."""
        async for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=prefix):
            for item in page.get("Contents", ()):
                yield item["Key"]


@asynccontextmanager
async def _bucket(access: Access) -> AsyncIterator[_Bucket]:
    config = AioConfig(connect_timeout=5, read_timeout=60, retries={"max_attempts": 5, "mode": "standard"})
    session = get_session()
    try:
        async with session.create_client(
            "s3",
            region_name=access.region,
            endpoint_url=access.endpoint_url,
            aws_access_key_id=access.access_key,
            aws_secret_access_key=access.secret_key,
            config=config,
        ) as client:
            yield _Bucket(client, access.bucket)
    except BotoCoreError as error:
        raise TransientError(f"the bucket of {access.client_id} does not answer") from error


async def _check_client(bucket: _Bucket, access: Access, comparison: Comparison) -> None:
    tally = comparison.tally(access.client_id)
    try:
        files = files_of(await _chain(bucket, access))
        for file in files.values():
            tally.files += 1
            await _check_file(bucket, access, file, comparison)
        # Who reads the bucket by listing it must find the same files as who reads the manifests.
        async for key in bucket.keys(f"{access.prefix}events/"):
            if key not in files:
                tally.note("broken", f"{key} is in no manifest")
    except ManifestError as error:
        tally.note("broken", str(error))
    except ClientError as error:
        tally.note("broken", f"{error.operation_name}: {error.response['Error']['Code']}")


async def _chain(bucket: _Bucket, access: Access) -> list[Manifest]:
    """The manifests from the newest to the first; empty before the first run. Raises ManifestError."""
    body = await bucket.get(f"{access.prefix}manifests/latest.json")
    if body is None:
        return []
    chain = [read_manifest(body, client_id=access.client_id, prefix=access.prefix)]
    own_key = manifest_key(access.prefix, chain[0].run_key)
    if await bucket.get(own_key) != body:
        raise ManifestError(f"latest.json is not the same as {own_key}")
    while link := chain[-1].previous:
        body = await bucket.get(link.key)
        if body is None:
            raise ManifestError(f"{link.key} is missing")
        try:
            older = read_manifest(body, client_id=access.client_id, prefix=access.prefix, sha256=link.sha256)
        except ManifestError as error:
            raise ManifestError(f"{link.key} {error}") from error
        chain.append(older)  # it ends: a circle would need a manifest that holds its own digest
    return chain


async def _check_file(bucket: _Bucket, access: Access, file: File, comparison: Comparison) -> None:
    tally = comparison.tally(access.client_id)
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as body:
        sha256 = await bucket.read(file.key, body)
        if sha256 is None:
            tally.note("broken", f"{file.key} is missing")
            return
        size = body.seek(0, 2)
        body.seek(0)
        if sha256 != file.sha256 or size != file.bytes:
            tally.note("broken", f"{file.key} has other bytes than its manifest says")
        try:
            events = await asyncio.to_thread(_add_lines, body, access.client_id, comparison)
        except (OSError, EOFError, zlib.error):
            tally.note("broken", f"{file.key} is not a whole gzip file")
            return
        if events != file.events:
            tally.note("broken", f"{file.key} has {events} events, its manifest says {file.events}")


def _add_lines(body: IO[bytes], client_id: str, comparison: Comparison) -> int:
    count = 0
    with gzip.open(body) as lines:
        for line in lines:
            comparison.add(client_id, line.rstrip(b"\n"))
            count += 1
    return count


_COUNTS = tuple(item.name for item in fields(Tally) if item.name != "examples")


def report(verdict: Verdict) -> str:
    """A table for a person, then examples of each fault."""
    tallies = sorted(verdict.tallies.items())
    width = max([len("client"), *(len(client_id) for client_id, _ in tallies)])
    lines = ["  ".join(["client".ljust(width), *(name.rjust(8) for name in _COUNTS)])]
    for client_id, tally in tallies:
        cells = (str(getattr(tally, name)).rjust(max(8, len(name))) for name in _COUNTS)
        lines.append("  ".join([client_id.ljust(width), *cells]))
    for client_id, tally in tallies:
        lines += [f"{client_id}: {fault}: {', '.join(found)}" for fault, found in tally.examples.items()]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Exit status 0 without faults, 1 with some, 2 when there is nothing to check with."""
    parser = argparse.ArgumentParser(prog="python -m local.verify", description=__doc__)
    parser.add_argument("--clients", type=Path, required=True, help="the clients.json of the embedded stack")
    parser.add_argument("--record", type=Path, required=True, help="the record of `python -m local traffic`")
    options = parser.parse_args(arguments)
    try:
        verdict = asyncio.run(verify(options.record, options.clients))
    except (OSError, KeyError, ValueError) as error:
        print(f"verify: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except TransientError as error:
        print(f"verify: {error}", file=sys.stderr)
        return 2
    print(report(verdict))
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
