"""Apache Kafka, one KRaft node that is broker and controller; without Java or Maven a smaller broker in its place."""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from local import jars
from local.part import Part, accepts_connections, run_tool
from local.process import Command, PartError

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""Events of 1 MB fit with room to spare; larger ones take the pointer's way."""

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
message.max.bytes={max_message_bytes}
replica.fetch.max.bytes={max_message_bytes}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
"""
# The last one: a killed broker can't register anew before its old session has timed out, by default after 9 s.
_JVM = (
    "-Xms64m",
    "-Xmx768m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # a third off the start; the optimising compiler would only take our two cores
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
)


class Broker(Part):
    """What both brokers are to the others."""

    name: ClassVar[str] = "Kafka"
    client_options: Mapping[str, Any] = {}
    """What our own client needs beside the address."""
    remark = ""
    """A sentence for the person at the terminal, where the broker isn't the real one."""

    @property
    def bootstrap_servers(self) -> str:
        """Address for clients."""
        return f"127.0.0.1:{self.port}"

    async def is_ready(self) -> bool:
        """Whether it answers a client's request for metadata."""
        await accepts_connections(self.port)
        try:
            client = await self._admin()
        except KafkaError:
            return False
        await client.close()
        return True

    async def create_topic(self, name: str, *, partitions: int, retention_hours: int) -> None:
        """Create the topic unless it is there; a topic that is there keeps its settings."""
        client = await self._admin()
        try:
            topic = NewTopic(
                name,
                num_partitions=partitions,
                replication_factor=1,
                topic_configs={
                    "retention.ms": str(retention_hours * 3_600_000),
                    "cleanup.policy": "delete",
                    "max.message.bytes": str(MAX_MESSAGE_BYTES),
                },
            )
            answer = await client.create_topics([topic])
        finally:
            await client.close()
        already_exists = 36  # https://kafka.apache.org/protocol#protocol_error_codes
        failed = [error for error in answer.topic_errors if error[1] not in (0, already_exists)]
        if failed:
            raise PartError(f"the broker refuses topic {name}: {failed[0]}")

    async def _admin(self) -> AIOKafkaAdminClient:
        client = AIOKafkaAdminClient(
            bootstrap_servers=self.bootstrap_servers, request_timeout_ms=10_000, **self.client_options
        )
        try:
            await client.start()
        except BaseException:
            await client.close()
            raise
        return client


class Kafka(Broker):
    """The real broker."""

    def __init__(self, folder: Path, port: int, controller_port: int, *, say: Callable[[str], None]) -> None:
        super().__init__(folder, port)
        self.controller_port = controller_port
        self.version = jars.kafka_version()
        self.properties: dict[str, str] = {}
        """Override `_PROPERTIES`. Like `format_options`, set before the first start."""
        self.format_options: tuple[str, ...] = ()
        """More arguments for formatting the storage, e.g. the first users."""
        self._say = say
        self._jars = Path()

    async def prepare(self) -> None:
        """Fetch the jars and format the storage, both once; write the properties."""
        self._jars = await jars.fetch(self._say)
        data = self.folder / "data"
        self._properties.write_text(
            _PROPERTIES.format(
                port=self.port,
                controller_port=self.controller_port,
                data=data,
                max_message_bytes=MAX_MESSAGE_BYTES,
            )
            + "".join(f"{key}={value}\n" for key, value in self.properties.items())  # of two, the last one holds
        )
        if not (data / "bootstrap.checkpoint").exists():  # written last
            cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            shutil.rmtree(data, ignore_errors=True)
            await run_tool(
                self._java(
                    *("kafka.tools.StorageTool", "format", f"-t={cluster_id}", "-c", str(self._properties)),
                    *self.format_options,
                ),
                name="formatting Kafka's storage",
            )

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def command(self) -> Command:
        """SIGTERM is Kafka's controlled shutdown."""
        return self._java("kafka.Kafka", str(self._properties))

    def _java(self, *arguments: str) -> Command:
        java = find_java()
        if java is None:
            raise PartError("Java 17 or newer is not there")
        return Command(argv=(java, *_JVM, "-cp", f"{self._jars}/*", *arguments), log=self.log, folder=self.folder)


class Noida(Broker):
    """A broker without Java, for the demo only: it loses acknowledged records when it is killed."""

    def __init__(self, folder: Path, port: int, *, why: str) -> None:
        super().__init__(folder, port)
        self.version = f"noida-db {version('noida-db')}"
        self.remark = f"{why}, so the broker is {self.version}: for the demo only, it loses records when killed"

    def command(self) -> Command:
        """SIGINT lets it save its data."""
        wheel = find_spec("noida_db")
        if wheel is None or wheel.origin is None:
            raise PartError("the package noida-db is not installed")
        program = Path(wheel.origin).with_name("noida-db")
        return Command(
            argv=(str(program), "start", "--only", "kafka", "--kafka-port", str(self.port), "--data-dir", "data"),
            log=self.log,
            folder=self.folder,
            stop_signal=signal.SIGINT,
        )


async def choose_broker(folder: Path, port: int, controller_port: int, *, say: Callable[[str], None]) -> Broker:
    """Apache Kafka where Java 17 and the jars are there, or can be fetched."""
    if find_java() is None:
        return Noida(folder, port, why="Java 17 or newer is not there")
    if not jars.are_cached():
        if jars.find_maven() is None:
            return Noida(folder, port, why="Maven is not there")
        try:
            await jars.fetch(say)
        except jars.DownloadError as error:
            return Noida(folder, port, why=str(error))
    return Kafka(folder, port, controller_port, say=say)


def find_java() -> str | None:
    """The path of a Java of version 17 or newer: JAVA_HOME's, else the first one on PATH."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or not Path(java).is_file():
        return None
    return java if _java_release(java) >= 17 else None


@cache
def _java_release(java: str) -> int:
    """E.g. 17; 0 when it does not say."""
    text = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', text)
    return int(found[1]) if found else 0
