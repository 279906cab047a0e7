"""The embedded stack: all parts under one folder, provisioned, with the environment that the services need."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from database.migrate import migrate
from local import ports, provision, samples
from local.aws import REGION, Aws
from local.firestore import PROJECT, Firestore, find_jar
from local.kafka import choose_broker, find_java
from local.leftovers import FolderLock, Pids
from local.part import Part
from local.postgres import Postgres
from local.process import Process
from local.samples import SampleAccess
from local.state import State, env_text, write_private
from pipeline.errors import TransientError
from pipeline.secrets import SecretBox
from pipeline.stores import open_store

TOPIC = "events.raw"
RETENTION_HOURS = 168
_SAVE_CLIENTS_SECONDS = 10.0
_CLIENT_STORE_TRIES = 6  # of ten seconds each: the emulator's first answers take long where much else starts
_PORTS = ("postgres", "kafka", "kafka_controller", "aws", "firestore")


class Stack:
    """Everything that the services talk to. Start it in the thread that lives longest: the parts die with it.

    `postgres`, `kafka`, `aws` and `firestore` can be stopped, killed and started by themselves; `environment` is what
    `env` holds once `start` has returned.
    """

    def __init__(
        self,
        folder: Path,
        *,
        say: Callable[[str], None] = lambda _line: None,
        partitions: int = 12,
        postgres_bin: Path | None = None,
        postgres_settings: Mapping[str, str] | None = None,
    ) -> None:
        """`say` gets one line for each thing that a person at the terminal wants to know.

        Raises FolderInUseError when another stack runs in the folder.
        """
        self.folder = folder.resolve()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = FolderLock(self.folder)
        self.environment: dict[str, str] = {}
        self.samples: list[SampleAccess] = []
        self.parts: list[Part] = []
        self._say = say
        self._partitions = partitions
        self._pids = Pids(self.folder)
        self._saving: asyncio.Task[None] | None = None
        self.state = state = State.load(self.folder)
        self._earlier_ports, state.ports = state.ports, {}
        self._postgres_bin, self._postgres_settings = postgres_bin, postgres_settings

    async def start(self) -> None:
        """Returns when every service could start. Raises PartError, and then nothing runs."""
        began = time.monotonic()
        try:
            self.env_file.unlink(missing_ok=True)
            for name in await self._pids.reap():
                self._say(f"{name} was left from an earlier run: ended")
            await self._make_parts()
            await self._start_parts()
        except BaseException as error:
            await self.stop()
            raise _cause(error) from None
        self._say(f"Ready in {time.monotonic() - began:.1f} s: {self.env_file}")

    async def _make_parts(self) -> None:
        state, folder = self.state, self.folder
        state.ports = chosen = ports.choose(_PORTS, self._earlier_ports)
        self.postgres = Postgres(
            folder / "postgres",
            chosen["postgres"],
            password=state.postgres_password,
            bin_folder=self._postgres_bin,
            settings=self._postgres_settings,
        )
        self.kafka = await choose_broker(folder / "kafka", chosen["kafka"], chosen["kafka_controller"], say=self._say)
        self.aws = Aws(folder / "aws", chosen["aws"], root=state.aws_root)
        jar = find_jar()
        has_firestore = jar is not None and find_java() is not None
        self.firestore = (
            Firestore(folder / "firestore", chosen["firestore"], jar=jar) if jar and has_firestore else None
        )
        if self.kafka.remark:
            self._say(self.kafka.remark)
        if self.firestore is None:
            self._say("The Firestore emulator is not installed, so clients are kept in PostgreSQL")
        self.parts = [self.postgres, self.kafka, self.aws, *([self.firestore] if self.firestore else [])]
        for part in self.parts:
            part.on_start = self._note
        state.save(folder)

    def _note(self, part: Part, process: Process) -> None:
        self._pids.add(part.name, process)

    @property
    def env_file(self) -> Path:
        """Exists only while the stack is ready."""
        return self.folder / "env"

    async def _start_parts(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._timed(self.kafka, self._with_topic))
            async with asyncio.TaskGroup() as needed_by_clients:
                needed_by_clients.create_task(self._timed(self.postgres, self._migrated))
                needed_by_clients.create_task(self._timed(self.aws, self._provisioned))
                if self.firestore:
                    needed_by_clients.create_task(self._timed(self.firestore))
            await self._fill_client_store()
        if self.firestore:
            self._saving = asyncio.create_task(self._save_clients(self.firestore))
        self.environment = self._environment()
        self.state.save(self.folder)
        samples.write_accesses(self.folder / "clients.json", self.samples, endpoint_url=self.aws.endpoint_url)
        write_private(self.env_file, env_text(self.environment))

    async def _timed(self, part: Part, then: Callable[[], Awaitable[None]] | None = None) -> None:
        began = time.monotonic()
        await part.start()
        if then:
            await then()
        self._say(f"{part.name} {part.version}: ready in {time.monotonic() - began:.1f} s")

    async def _migrated(self) -> None:
        await migrate(self.postgres.dsn, self.postgres.dsn)

    async def _with_topic(self) -> None:
        await self.kafka.create_topic(TOPIC, partitions=self._partitions, retention_hours=RETENTION_HOURS)

    async def _provisioned(self) -> None:
        self.deployed = await provision.deploy(self.aws)
        self.samples = await samples.ensure_access(self.aws, self.state)
        own_keys = [access.kms_key for access in self.samples if access.kms_key]
        clients_keys = provision.policy_document([provision.kms_statement(own_keys)])
        outputs = self.deployed.outputs
        # One user for each pair of variables, with the policies of the services that read these variables.
        for user, services, policy in (
            ("raw", ("Streamer", "Cleaner"), None),
            ("processed", ("Processor", "Syncer"), clients_keys),
            ("queue", ("Syncer", "Admin"), None),
        ):
            arns = [outputs[f"{service}PolicyArn"] for service in services]
            known = self.state.users.get(user)
            self.state.users[user] = await provision.ensure_user(self.aws, user, known, policy_arns=arns, policy=policy)

    def _environment(self) -> dict[str, str]:
        state, outputs, parameters = self.state, self.deployed.outputs, self.deployed.parameters
        raw, processed, queue = (state.users[user] for user in ("raw", "processed", "queue"))
        values = {
            "DATABASE_URL": self.postgres.dsn,
            "REPLICATION_SLOT": "events_pipeline",
            "PUBLICATION": "events_pipeline",
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
            "KAFKA_RAW_TOPIC": TOPIC,
            "KAFKA_PARTITIONS": str(self._partitions),
            "KAFKA_RETENTION_HOURS": str(RETENTION_HOURS),
            "KAFKA_GROUP": "processor",
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.aws.endpoint_url,
            "AWS_ACCESS_KEY_ID": queue.key_id,
            "AWS_SECRET_ACCESS_KEY": queue.secret,
            "SYNC_QUEUE_URL": outputs["SyncQueueUrl"],
            "RAW_RETENTION_DAYS": parameters["RawRetentionDays"],
            "PROCESSED_RETENTION_DAYS": parameters["ProcessedRetentionDays"],
            "RAW_FLUSH_SECONDS": "5",
            "PROCESSED_FLUSH_SECONDS": "5",
            "CLEANUP_DELAY_SECONDS": "30",
            "ALLOW_PRIVATE_ENDPOINTS": "true",
            "CLIENT_STORE": "firestore" if self.firestore else "postgres",
            "CREDENTIALS_KEYS": state.credentials_keys,
            "ADMIN_API_KEY": state.admin_api_key,
            "BIND_HOST": "127.0.0.1",
            "LOG_LEVEL": "INFO",
        }
        for name, key in (("RAW", raw), ("PROCESSED", processed)):
            values |= {
                f"{name}_S3_BUCKET": outputs[f"{name.title()}Bucket"],
                f"{name}_S3_REGION": REGION,
                f"{name}_S3_ENDPOINT_URL": self.aws.endpoint_url,
                f"{name}_S3_ACCESS_KEY": key.key_id,
                f"{name}_S3_SECRET_KEY": key.secret,
                f"{name}_S3_KMS_KEY": outputs["KeyArn"],
            }
        if self.firestore:
            values |= {"GOOGLE_CLOUD_PROJECT": PROJECT, "FIRESTORE_EMULATOR_HOST": self.firestore.host}
        return values

    async def _fill_client_store(self) -> None:
        kind = "firestore" if self.firestore else "postgres"
        with _variable("FIRESTORE_EMULATOR_HOST", self.firestore.host if self.firestore else None):
            store = await open_store(kind=kind, project=PROJECT, dsn=self.postgres.dsn)
        try:
            box = SecretBox(self.state.credentials_keys.split(","))
            for left in reversed(range(_CLIENT_STORE_TRIES)):
                try:
                    await samples.ensure_clients(store, box, self.samples, endpoint_url=self.aws.endpoint_url)
                    break
                except TransientError:
                    if not left:
                        raise
        finally:
            await store.close()
        if self.firestore:
            await self.firestore.save()

    async def _save_clients(self, firestore: Firestore) -> None:
        """The emulator keeps all in memory; this bounds what a crash can take."""
        while True:
            await asyncio.sleep(_SAVE_CLIENTS_SECONDS)
            with suppress(OSError):
                await firestore.save()

    async def died(self) -> Part:
        """Wait until a part ends by itself, and return it. Parts that a caller stops or kills don't count."""
        while True:
            waits = {asyncio.create_task(part.process.wait()): part for part in self.parts}
            try:
                done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waits:
                    task.cancel()
            for task in done:
                if not waits[task].process.expected_end:
                    return waits[task]
            await asyncio.sleep(0.2)  # a caller restarts it

    async def stop(self) -> None:
        """Stop every part in good order, all at once: none needs another one to end. The folder is free afterwards."""
        self.env_file.unlink(missing_ok=True)
        if self._saving:
            self._saving.cancel()
            await asyncio.gather(self._saving, return_exceptions=True)
        results = await asyncio.gather(*(part.stop() for part in self.parts), return_exceptions=True)
        self._pids.clear()
        self._lock.release()
        for result in results:
            if isinstance(result, BaseException):
                raise result


def _cause(error: BaseException) -> BaseException:
    """What a task group failed of: its first error."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextmanager
def _variable(name: str, value: str | None) -> Iterator[None]:
    """Google's library takes the emulator's address from the environment alone, when a client is made."""
    before = os.environ.get(name)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        if value is not None:
            os.environ.pop(name)
            if before is not None:
                os.environ[name] = before
