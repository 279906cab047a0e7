"""The queue: SQS over aiobotocore. At least once, in any order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
import orjson
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from pipeline.errors import ConfigError, PermanentError, PipelineError, TransientError

_BATCH = 10  # the most that SQS takes and gives at once
_WAIT_SECONDS = 20  # the longest poll that SQS knows
_LONGEST_INVISIBILITY = 43_200

_THROTTLED = frozenset(
    {"OverLimit", "RequestThrottled", "ThrottlingException", "Throttling", "ServiceUnavailable", "InternalError",
     "InternalFailure", "RequestTimeout"}
)  # fmt: skip
_GONE = frozenset({"InvalidParameterValue", "MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight",
                   "ReceiptHandleIsInvalid"})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message that is invisible to others for a while."""

    id: str
    body: str = field(repr=False)
    receipt: str = field(repr=False)
    sent_at: datetime
    receives: int
    """How often it was received, this time included."""


class Queue:
    """One queue. Every call raises TransientError or PermanentError."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url
        self.max_receives: int | None = None
        """After so many receives SQS moves a message to the dead-letter queue; None: never."""
        self._dead_letters: str | None = None
        """The ARN of that queue."""

    async def receive(self, most: int, invisible_seconds: float, *, wait_seconds: int = _WAIT_SECONDS) -> list[Message]:
        """Up to `most` messages; waits up to `wait_seconds` for the first one."""
        answer = await self._call(
            "receive_message",
            MaxNumberOfMessages=min(most, _BATCH),
            WaitTimeSeconds=wait_seconds,
            VisibilityTimeout=_seconds(invisible_seconds),
            MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
        )
        return [
            Message(
                id=item["MessageId"],
                body=item["Body"],
                receipt=item["ReceiptHandle"],
                sent_at=datetime.fromtimestamp(int(item.get("Attributes", {}).get("SentTimestamp", 0)) / 1000, UTC),
                receives=int(item.get("Attributes", {}).get("ApproximateReceiveCount", 1)),
            )
            for item in answer.get("Messages", ())
        ]

    async def delete(self, message: Message) -> None:
        """Its work is done. May be repeated."""
        await self._call("delete_message", ReceiptHandle=message.receipt)

    async def hide(self, message: Message, seconds: float) -> None:
        """Let others see it in `seconds` from now, not earlier. Nothing happens when it is no longer ours."""
        try:
            await self._call(
                "change_message_visibility", ReceiptHandle=message.receipt, VisibilityTimeout=_seconds(seconds)
            )
        except PermanentError as error:
            if not isinstance(error.__cause__, ClientError) or _code(error.__cause__) not in _GONE:
                raise

    async def send(self, bodies: Sequence[str]) -> None:
        """Send them all, or raise: some may have been sent then."""
        for start in range(0, len(bodies), _BATCH):
            batch = bodies[start : start + _BATCH]
            answer = await self._call(
                "send_message_batch",
                Entries=[{"Id": str(number), "MessageBody": body} for number, body in enumerate(batch)],
            )
            if answer.get("Failed"):
                raise TransientError("SYNC_QUEUE_URL: the queue did not take all messages")

    async def check(self) -> None:
        """Raise unless the queue exists and may be used; learn its redrive policy."""
        answer = await self._call("get_queue_attributes", AttributeNames=["QueueArn", "RedrivePolicy"])
        policy = answer.get("Attributes", {}).get("RedrivePolicy")
        members = orjson.loads(policy) if policy else {}
        self.max_receives = int(members["maxReceiveCount"]) if members else None
        self._dead_letters = members.get("deadLetterTargetArn")

    async def dead_letters(self) -> Queue | None:
        """The queue of the messages that were received too often; None when `check` has found none."""
        if self._dead_letters is None:
            return None
        account, name = self._dead_letters.split(":")[-2:]
        answer = await self._ask("get_queue_url", QueueName=name, QueueOwnerAWSAccountId=account)
        return Queue(self._client, answer["QueueUrl"])

    async def _call(self, operation: str, **arguments: Any) -> Any:
        return await self._ask(operation, QueueUrl=self._url, **arguments)

    async def _ask(self, operation: str, **arguments: Any) -> Any:
        try:
            return await getattr(self._client, operation)(**arguments)
        except ClientError as error:
            raise _translate(error) from error
        except NoCredentialsError as error:
            raise PermanentError("SYNC_QUEUE_URL: no credentials") from error
        except (BotoCoreError, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TransientError(f"SYNC_QUEUE_URL: the queue does not answer ({type(error).__name__})") from error


def _translate(error: ClientError) -> PipelineError:
    code = _code(error)
    if code in _THROTTLED or error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
        return TransientError(f"SYNC_QUEUE_URL: {code}")
    return PermanentError(f"SYNC_QUEUE_URL: {code}")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _seconds(value: float) -> int:
    return max(0, min(round(value), _LONGEST_INVISIBILITY))


@asynccontextmanager
async def open_queue(url: str, *, region: str, endpoint_url: str | None) -> AsyncIterator[Queue]:
    """The queue at `url`, with the pod's own credentials.

    Raises ConfigError, naming SYNC_QUEUE_URL, when it isn't there or may not be used.
    """
    config = AioConfig(
        connect_timeout=5,
        read_timeout=_WAIT_SECONDS + 10,
        max_pool_connections=32,
        retries={"mode": "standard", "total_max_attempts": 3},
    )
    async with get_session().create_client(
        "sqs", region_name=region, endpoint_url=endpoint_url, config=config
    ) as client:
        queue = Queue(client, url)
        try:
            await queue.check()
        except PermanentError as error:
            cause = error.__cause__
            code = _code(cause) if isinstance(cause, ClientError) else type(cause).__name__
            raise ConfigError(f"SYNC_QUEUE_URL is wrong: the queue is not usable [{code}]", hint=_HINT) from error
        yield queue


_HINT = (
    "it must exist in AWS_REGION, and AWS_ACCESS_KEY_ID (or the pod's role) needs sqs:ReceiveMessage, DeleteMessage,"
    " ChangeMessageVisibility, SendMessage and GetQueueAttributes on it"
)
