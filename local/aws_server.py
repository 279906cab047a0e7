"""The AWS emulator `ministack` with what an embedded stack needs more: `python -m local.aws_server`.

Three things that the emulator itself does not do (1.5):
- it keeps users, keys, queues and rules in memory and writes them at a shutdown in good order only. Here they are
  also written every few seconds, so that a killed emulator comes back with its users and keys;
- it lets anybody in who signs with the key id `test` or an account number, with any secret. Here those are strangers,
  as on AWS; only the random root key of AWS_ACCESS_KEY_ID is root;
- it asks for a permission `sqs:SendMessageBatch`, which AWS does not have: a batch needs what a single message needs.
  https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from ministack import app as ministack  # type: ignore[import-untyped]
from ministack.core import iam_actions  # type: ignore[import-untyped]
from ministack.core.persistence import save_all  # type: ignore[import-untyped]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_SAVE_SECONDS = 2.0
_KEY_ID = re.compile(rb"(?:Credential=|X-Amz-Credential=|^AWS )([^/%:&,]+)")
_OPEN_TO_ALL = re.compile(rb"test|[0-9]{12}")
_NO_KEY_NEEDED = ("/_ministack/health", "/_ministack/ready")
_REFUSAL = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>InvalidAccessKeyId</Code>'
    b"<Message>The AWS Access Key Id you provided does not exist in our records.</Message></Error>"
)


def is_stranger(path: str, query: bytes, authorization: bytes) -> bool:
    """Whether a request carries no key id, or one that the emulator would wave through."""
    if path in _NO_KEY_NEEDED:
        return False
    found = _KEY_ID.search(authorization) or _KEY_ID.search(query)
    return found is None or _OPEN_TO_ALL.fullmatch(found[1]) is not None


def guarded(inner: Application) -> Application:
    """`inner` without strangers, saving its state while it runs."""
    saving: list[asyncio.Task[None]] = []

    async def application(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            authorization = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            if is_stranger(scope["path"], scope["query_string"], authorization):
                await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/xml")]})
                await send({"type": "http.response.body", "body": _REFUSAL})
                return
        elif scope["type"] == "lifespan":
            receive, send = _lifespan(receive, send, saving)
        await inner(scope, receive, send)

    return application


def _lifespan(receive: Receive, send: Send, saving: list[asyncio.Task[None]]) -> tuple[Receive, Send]:
    """Save between the end of the start, when the old state was read, and the shutdown, which saves by itself."""

    async def received() -> Message:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            for task in saving:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        return message

    async def sent(message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            saving.append(asyncio.create_task(_save_for_ever()))
        await send(message)

    return received, sent


async def _save_for_ever() -> None:
    while True:
        await asyncio.sleep(_SAVE_SECONDS)
        # On the loop, not in a thread: most handlers run there, and none may change a dictionary while it is copied.
        save_all(ministack._build_persistence_save_dict())


def with_queue_batches(extract: Callable[..., str | None]) -> Callable[..., str | None]:
    """`extract`, the emulator's from a request to its IAM action, but batches of SQS need what one message needs."""

    def extracted(*request: Any, **more: Any) -> str | None:
        action = extract(*request, **more)
        return action.removesuffix("Batch") if action and action.startswith("sqs:") else action

    return extracted


if __name__ == "__main__":
    iam_actions.extract_iam_action = with_queue_batches(iam_actions.extract_iam_action)
    ministack.app = guarded(ministack.app)
    ministack.main()
