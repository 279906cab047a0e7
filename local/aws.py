"""The AWS emulator: S3, SQS, EventBridge, IAM, STS, KMS and CloudFormation on one port."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from local.part import Part, accepts_connections
from local.process import Command

REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key pair of one IAM user."""

    key_id: str
    secret: str = field(repr=False)


class Aws(Part):
    """The emulator. `root` may do everything; every other key only what its user's policies say."""

    name: ClassVar[str] = "AWS emulator"

    def __init__(self, folder: Path, port: int, *, root: AccessKey) -> None:
        super().__init__(folder, port)
        self.root = root
        self.version = f"ministack {version('ministack')}"

    @property
    def endpoint_url(self) -> str:
        """Address for clients; they must use path-style S3, which is boto's choice for a numeric host."""
        return f"http://127.0.0.1:{self.port}"

    async def prepare(self) -> None:
        """Its folders."""
        for name in ("state", "s3", "tmp"):
            (self.folder / name).mkdir(exist_ok=True)

    def command(self) -> Command:
        """Bound to the loopback interface, with IAM enforced and everything on disk."""
        return Command(
            argv=(sys.executable, "-m", "local.aws_server"),
            log=self.log,
            folder=Path(__file__).parent.parent,
            environment={
                "AUTH": "true",
                "AWS_ACCESS_KEY_ID": self.root.key_id,
                "AWS_SECRET_ACCESS_KEY": self.root.secret,
                "AWS_SESSION_TOKEN": "",
                "BIND_HOST": "127.0.0.1",
                "GATEWAY_PORT": str(self.port),
                "IOT_MTLS_ENABLED": "0",
                "LOG_LEVEL": "WARNING",
                "MINISTACK_HOST": "127.0.0.1",  # stands in queue URLs
                "MINISTACK_REGION": REGION,
                "PERSIST_STATE": "1",
                "S3_DATA_DIR": str(self.folder / "s3"),
                "S3_PERSIST": "1",
                "SFTP_ENABLED": "0",
                "STATE_DIR": str(self.folder / "state"),
                "TMPDIR": str(self.folder / "tmp"),
            },
        )

    async def is_ready(self) -> bool:
        """Whether it takes connections: it reads its old state before it listens."""
        return await accepts_connections(self.port)

    @asynccontextmanager
    async def client(self, service: str, key: AccessKey | None = None) -> AsyncIterator[Any]:
        """An aiobotocore client of `service`, as root or with another key."""
        key = key or self.root
        async with _session().create_client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=key.key_id,
            aws_secret_access_key=key.secret,
            config=AioConfig(retries={"mode": "standard", "total_max_attempts": 2}),
        ) as client:
            yield client


@cache
def _session() -> Any:
    """One for all clients: each would parse the service models anew."""
    return get_session()
