"""`python -m bench syncer`: processed objects into clients' buckets, by the syncer and by s5cmd, on one emulator.

Many small objects of many clients, then few large ones of one client. Both ways download under the pipeline's key and
upload under each client's own. The syncer also checks every digest, counts every line, joins objects into files, keeps
the ledger and writes manifests; s5cmd copies through a folder. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import os
import resource
import shutil
import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
from cryptography.fernet import Fernet
from pydantic import SecretStr

from database.migrate import migrate
from local import ports, provision
from local.aws import AccessKey, Aws
from local.postgres import Postgres, new_password
from local.services import Service
from pipeline.clients import Client, ClientId, PrivacyLevel
from pipeline.gzip import member
from pipeline.keys import processed_key
from pipeline.privacy import compile_policy
from pipeline.s3 import BucketAccess, ObjectStore, digest, open_bucket
from pipeline.secrets import SecretBox
from pipeline.stores.postgres import PostgresClientStore

BUCKET = "bench-processed"
HOUR = datetime(2026, 11, 23, 5, tzinfo=UTC)
RUN_KEY = "20261123T0600-hourly"
_HOURS = 4
_AT_ONCE = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this part."""
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--object-bytes", type=int, default=20_000)
    parser.add_argument("--large-mb", type=int, default=2_000, help="of one client, in objects of 8 MB; 0: none")
    parser.add_argument("--rounds", type=int, default=1, help="of both ways, one after the other")


async def main(options: argparse.Namespace) -> dict[str, Any]:
    """Both loads, each in both ways."""
    folder = Path(tempfile.mkdtemp(prefix="bench-syncer-"))
    folder.chmod(0o755)  # noqa: ASYNC240 - the server runs as another user
    chosen = ports.choose(("postgres", "aws", "syncer"), {})
    postgres = Postgres(folder / "postgres", chosen["postgres"], password=new_password())
    aws = Aws(folder / "aws", chosen["aws"], root=AccessKey("AKIA" + "BENCHBENCHBENCH1", uuid.uuid4().hex))
    try:
        await asyncio.gather(postgres.start(), aws.start())
        await migrate(postgres.dsn, postgres.dsn)
        bench = Bench(folder, postgres.dsn, aws, chosen["syncer"])
        results: dict[str, list[Any]] = {"small": [], "large": []}
        for _ in range(options.rounds):
            results["small"].append(await bench.load(options.clients, options.objects, options.object_bytes))
            if options.large_mb:
                results["large"].append(await bench.load(1, max(1, options.large_mb // 8), 8_000_000))
        return results
    finally:
        await asyncio.gather(postgres.stop(), aws.stop())
        shutil.rmtree(folder, ignore_errors=True)


class Bench:
    """One emulator, one ledger; each load has clients of its own."""

    def __init__(self, folder: Path, dsn: str, aws: Aws, port: int) -> None:
        self._folder, self._dsn, self._aws, self._port = folder, dsn, aws, port
        self._box_key = Fernet.generate_key().decode()
        self._offset = 0

    async def load(self, clients: int, objects: int, size: int) -> dict[str, Any]:
        """Put `objects` of `size` bytes there, then deliver them in both ways."""
        await provision.ensure_bucket(self._aws, BUCKET)
        statements = [
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{BUCKET}"},
            {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": f"arn:aws:s3:::{BUCKET}/*"},
        ]
        policy = provision.policy_document(statements)
        reader = await provision.ensure_user(self._aws, "bench-processed", None, policy=policy)
        made = [await self._client(number) for number in range(clients)]
        total = await self._fill([client for client, _ in made], objects, size, reader)
        ours = await self._syncer([client for client, _ in made], reader)
        peer = await self._s5cmd(made, reader)
        found: dict[str, Any] = {"objects": objects, "clients": clients, "bytes": total}
        for name, way in (("syncer", ours), ("s5cmd", peer)):
            found[name] = way | {
                "objects_per_second": round(objects / way["seconds"]),
                "mb_per_second": round(total / 1e6 / way["seconds"], 1),
                "cpu_ms_per_object": round(1000 * way["cpu_seconds"] / objects, 2),
                # It is one process on one core: nothing can be faster than this.
                "emulator_limit_objects_per_second": round(objects / way["emulator_cpu_seconds"]),
            }
        for what in ("seconds", "cpu_seconds", "emulator_cpu_seconds"):
            found[f"s5cmd_to_syncer_{what}"] = round(peer[what] / ours[what], 2)
        return found

    async def _client(self, number: int) -> tuple[Client, AccessKey]:
        client_id = f"bench-{uuid.uuid4().hex[:8]}-{number:03d}"
        await provision.ensure_bucket(self._aws, client_id)
        statement = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{client_id}/*"}
        key = await provision.ensure_user(self._aws, client_id, None, policy=provision.policy_document([statement]))
        client = Client(
            client_id=ClientId(client_id),
            privacy_level=PrivacyLevel.STANDARD,
            sync_enabled=True,
            client_s3_bucket=client_id,
            client_s3_endpoint_url=self._aws.endpoint_url,
            client_s3_access_key=key.key_id,
            client_s3_secret_key=SecretBox([self._box_key]).encrypt(key.secret),
        )
        store = PostgresClientStore(self._dsn)
        await store.put(client, actor="bench")
        await store.close()
        return client, key

    async def _fill(self, clients: list[Client], objects: int, size: int, key: AccessKey) -> int:
        """Objects in S3 and in the ledger; their bytes in all."""
        slots = asyncio.Semaphore(_AT_ONCE)
        version = compile_policy(clients[0], pseudonym_keys={}).version
        async with (
            await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection,
            open_bucket(self._access(key), max_connections=_AT_ONCE) as bucket,
        ):
            lines = _lines(size)

            async def one(number: int) -> int:
                async with slots:
                    return await self._put(connection, bucket, clients[number % len(clients)], number, lines, version)

            return sum(await asyncio.gather(*(one(number) for number in range(objects))))

    async def _put(
        self,
        connection: psycopg.AsyncConnection,
        bucket: ObjectStore,
        client: Client,
        number: int,
        lines: bytes,
        version: str,
    ) -> int:
        body = member(b'{"n":%d}\n' % number + lines)  # no two are alike
        chunk = uuid.uuid4()
        self._offset += 1
        hour = HOUR - timedelta(hours=number // 100 % _HOURS)
        key = processed_key("client", client.client_id, hour, "events.raw", 0, self._offset, str(chunk))
        await bucket.put_new(key, body, sha256=digest(body), metadata={})
        position = f"00000001-0000000000000001-{self._offset:020d}"
        await connection.execute(
            "WITH c AS (INSERT INTO pipeline.chunks (id, topic, partition, generation, first_offset, next_offset,"
            " first_position, last_position) VALUES (%(chunk)s, 'events.raw', 0, 1, %(at)s, %(at)s, %(p)s, %(p)s)"
            " RETURNING id) INSERT INTO pipeline.processed_objects (chunk_id, kind, client_id, hour, bucket, key,"
            " events, bytes, sha256, privacy_level, policy_version, min_commit_time, max_commit_time)"
            " SELECT id, 'client', %(client)s, %(hour)s, %(bucket)s, %(key)s, %(events)s, %(bytes)s, %(sha256)s,"
            " 'standard', %(version)s, %(hour)s, %(hour)s FROM c",
            {
                "chunk": chunk,
                "at": self._offset,
                "p": position,
                "client": client.client_id,
                "hour": hour,
                "bucket": BUCKET,
                "key": key,
                "events": 1 + lines.count(b"\n"),
                "bytes": len(body),
                "sha256": hashlib.sha256(body).hexdigest(),
                "version": version,
            },
        )
        return len(body)

    def _access(self, key: AccessKey) -> BucketAccess:
        return BucketAccess(
            bucket=BUCKET,
            region="us-east-1",
            endpoint_url=self._aws.endpoint_url,
            access_key=SecretStr(key.key_id),
            secret_key=SecretStr(key.secret),
        )

    async def _syncer(self, clients: list[Client], reader: AccessKey) -> dict[str, Any]:
        """The service, from the orders on its queue to the last finished run."""
        async with self._aws.client("sqs") as sqs:
            queue = (await sqs.create_queue(QueueName=f"bench-{uuid.uuid4().hex[:8]}"))["QueueUrl"]
            service = Service("syncer", self._environment(queue, reader), self._port, self._folder / "syncer.log")
            await service.start()
            process = psutil.Process(service.pid)
            await _listening(self._port)
            aws, cpu, aws_cpu = psutil.Process(self._aws.process.pid), _cpu(process), 0.0
            aws_cpu = _cpu(aws)
            start = time.monotonic()
            for client in clients:
                body = f'{{"client_id":"{client.client_id}","run_key":"{RUN_KEY}"}}'
                await sqs.send_message(QueueUrl=queue, MessageBody=body)
            await self._all_finished([client.client_id for client in clients])
            seconds = time.monotonic() - start
            found = {
                "seconds": round(seconds, 2),
                "cpu_seconds": round(_cpu(process) - cpu, 2),
                "emulator_cpu_seconds": round(_cpu(aws) - aws_cpu, 2),
                "peak_memory_mb": round(_peak(service.pid) / 1e6, 1),
                "files": await self._files([client.client_id for client in clients]),
            }
            await service.stop()
        return found

    def _environment(self, queue: str, reader: AccessKey) -> dict[str, str]:
        return {
            "DATABASE_URL": self._dsn,
            "CLIENT_STORE": "postgres",
            "CREDENTIALS_KEYS": self._box_key,
            "SYNC_QUEUE_URL": queue,
            "ALLOW_PRIVATE_ENDPOINTS": "true",
            "AWS_ENDPOINT_URL": self._aws.endpoint_url,
            "AWS_ACCESS_KEY_ID": self._aws.root.key_id,
            "AWS_SECRET_ACCESS_KEY": self._aws.root.secret,
            "PROCESSED_S3_BUCKET": BUCKET,
            "PROCESSED_S3_ACCESS_KEY": reader.key_id,
            "PROCESSED_S3_SECRET_KEY": reader.secret,
            "BIND_HOST": "127.0.0.1",
            "PATH": os.environ["PATH"],
        }

    async def _all_finished(self, client_ids: list[str]) -> None:
        async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection:
            async with asyncio.timeout(1800):
                while True:
                    cursor = await connection.execute(
                        "SELECT count(*) FROM pipeline.sync_runs WHERE status = 'finished' AND client_id = ANY(%s)",
                        (client_ids,),
                    )
                    row: Any = await cursor.fetchone()
                    if row[0] == len(client_ids):
                        return
                    await asyncio.sleep(0.05)

    async def _files(self, client_ids: list[str]) -> int:
        async with await psycopg.AsyncConnection.connect(self._dsn) as connection:
            cursor = await connection.execute(
                "SELECT count(*) FROM pipeline.delivery_files f JOIN pipeline.sync_runs r ON r.id = f.run_id"
                " WHERE r.client_id = ANY(%s)",
                (client_ids,),
            )
            row: Any = await cursor.fetchone()
        return int(row[0])

    async def _s5cmd(self, clients: list[tuple[Client, AccessKey]], reader: AccessKey) -> dict[str, Any]:
        """For each client: down under one key, up under the other; as many clients at once as there are cores."""
        slots = asyncio.Semaphore(os.cpu_count() or 1)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        aws = psutil.Process(self._aws.process.pid)
        aws_cpu = _cpu(aws)
        start = time.monotonic()

        async def one(client: Client, key: AccessKey) -> None:
            async with slots:
                folder = self._folder / "s5cmd" / client.client_id
                await self._copy(reader, f"s3://{BUCKET}/processed-events/{client.client_id}/*", f"{folder}/")
                await self._copy(key, f"{folder}/*", f"s3://{client.client_s3_bucket}/s5cmd/")
                shutil.rmtree(folder)

        await asyncio.gather(*(one(client, key) for client, key in clients))
        seconds = time.monotonic() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "seconds": round(seconds, 2),
            "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
            "emulator_cpu_seconds": round(_cpu(aws) - aws_cpu, 2),
        }

    async def _copy(self, key: AccessKey, source: str, target: str) -> None:
        program = Path(sys.executable).with_name("s5cmd")
        child = await asyncio.create_subprocess_exec(
            *(program, "--log", "error", "--endpoint-url", self._aws.endpoint_url, "cp", source, target),
            env={
                "AWS_ACCESS_KEY_ID": key.key_id,
                "AWS_SECRET_ACCESS_KEY": key.secret,
                "AWS_REGION": "us-east-1",
                "PATH": os.environ["PATH"],
            },
            stdout=asyncio.subprocess.DEVNULL,
        )
        assert await child.wait() == 0


def _lines(size: int) -> bytes:
    """Lines that are about `size` bytes compressed: of a random text that gzip halves."""
    text = base64.b16encode(os.urandom(size)).decode()
    return "".join(f'{{"note":"{text[at : at + 400]}"}}\n' for at in range(0, len(text), 400)).encode()


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


async def _listening(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return
