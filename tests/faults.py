"""A TCP proxy that misbehaves on command: between a service and a server, without privileges and on any platform."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_CHUNK_BYTES = 64 << 10


class Proxy:
    """Forwards 127.0.0.1:`port` to a server. Its public attributes are the controls; set them at any time."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.latency_seconds = 0.0
        """Added to each chunk, in both directions."""
        self.bytes_per_second: float | None = None
        """A limit for each connection and direction; None for none."""
        self.answer: bytes | None = None
        """What each request is answered with, instead of being forwarded; then the connection is closed."""
        self.answered = 0
        """How often that happened."""
        self.cuts_answers = False
        """Requests are forwarded; the server's answers are not: the connection is cut instead."""
        self.cut = 0
        """How often that happened."""
        self._target_port = target_port
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def black_hole(self) -> bool:
        """Connections stay open and are accepted, but nothing gets through."""
        return not self._flowing.is_set()

    @black_hole.setter
    def black_hole(self, value: bool) -> None:
        if value:
            self._flowing.clear()
        else:
            self._flowing.set()

    def reset(self) -> None:
        """Cut every connection with an RST."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def start(self) -> None:
        """Listen; `port` is known afterwards."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close everything."""
        assert self._server is not None
        self._server.close()
        self.black_hole = False
        while self._tasks:  # not cancelled: asyncio's streams complain of handlers that were
            self.reset()
            await asyncio.wait(self._tasks, timeout=0.1)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._target_port)
            self._writers.add(far)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, far, writer))
                group.create_task(self._pass_on(far_reader, writer, None))
        except* (OSError, asyncio.IncompleteReadError):
            pass  # either side has gone; the other one is told below
        finally:
            for each in (writer, far):
                if each is not None:
                    self._writers.discard(each)
                    each.transport.abort()
            self._tasks.discard(task)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer_to: asyncio.StreamWriter | None
    ) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            if self.latency_seconds:
                await asyncio.sleep(self.latency_seconds)
            if self.bytes_per_second:
                await asyncio.sleep(len(chunk) / self.bytes_per_second)
            await self._flowing.wait()
            if self.answer is not None and answer_to is not None:
                self.answered += 1
                answer_to.write(self.answer)
                await answer_to.drain()
                with suppress(TimeoutError):  # what the client still sends must not become an RST before it has read
                    async with asyncio.timeout(0.2):
                        while await reader.read(_CHUNK_BYTES):
                            pass
                answer_to.close()
                return
            if self.cuts_answers and answer_to is None:
                self.cut += 1
                writer.transport.abort()
                return
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError  # ends the other direction too


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    """A proxy to 127.0.0.1:`port`."""
    proxy = Proxy(port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


def http_error(status: str, code: str) -> bytes:
    """An answer of S3, e.g. ("503 Slow Down", "SlowDown")."""
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>injected</Message></Error>'
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n\r\n{body}"
    ).encode()
