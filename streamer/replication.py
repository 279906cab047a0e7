"""The streaming replication protocol over libpq; the one file that knows psycopg's internals.

psycopg has no replication API, and its wait functions send a query cancel when their task is cancelled; so the socket
is driven here: readable, consume, take what is there. Reads come in bursts, not message by message.
https://www.postgresql.org/docs/current/protocol-replication.html
"""

from __future__ import annotations

import asyncio
import struct
import time
from dataclasses import dataclass
from typing import Any

from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from database.ledger import CONNECTION_OPTIONS
from pipeline.errors import PermanentError, PipelineError, TransientError
from pipeline.position import Lsn
from streamer.pgoutput import POSTGRES_EPOCH_MICROSECONDS, DecodeError

_XLOG_DATA = struct.Struct(">xQQq")
_KEEPALIVE = struct.Struct(">xQqB")
_STATUS = struct.Struct(">cQQQqB")

BURST_MESSAGES = 2000
"""At most so many messages at a time, so that the event loop turns."""

# A sender that gives up on us soon, so that a standby gets the slot; DATABASE_URL may say otherwise.
_PATIENCE = "-c wal_sender_timeout=15s"

# Text forms that don't depend on the server's settings, nor on DATABASE_URL.
_SESSION = "-c timezone=UTC -c datestyle=ISO -c intervalstyle=iso_8601 -c bytea_output=hex -c extra_float_digits=1"


class SlotBusyError(TransientError):
    """Another process reads the slot: stand by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemIdentity:
    """Which history of which database this server is in."""

    system_identifier: str
    timeline: int
    history: tuple[tuple[int, Lsn], ...]
    """Earlier timelines of this history, each with the LSN at which it ended, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keepalive:
    """All commits before `wal_end` were sent. `server_time` in microseconds since 1970."""

    wal_end: Lsn
    server_time: int
    reply_requested: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """What the socket held: payloads of the output plugin in order, and the keepalive after the last, if any."""

    payloads: list[bytes]
    keepalive: Keepalive | None


class ReplicationConnection:
    """A connection in walsender mode. Every call raises TransientError when the connection is lost."""

    def __init__(self, pgconn: Any) -> None:
        self._pgconn = pgconn

    @classmethod
    async def connect(cls, dsn: str) -> ReplicationConnection:
        """Connect to the database that `dsn` names. Raises TransientError when the server refuses or doesn't answer."""
        given = conninfo_to_dict(dsn)
        options = " ".join(filter(None, (_PATIENCE, str(given.get("options") or ""), _SESSION)))
        parameters: dict[str, Any] = given | CONNECTION_OPTIONS | {"replication": "database", "options": options}
        parameters |= {"client_encoding": "UTF8", "application_name": "streamer"}
        conninfo = make_conninfo(**parameters)
        pgconn = await asyncio.to_thread(pq.PGconn.connect, conninfo.encode())
        if pgconn.status != pq.ConnStatus.OK:
            message = pgconn.get_error_message()
            pgconn.finish()
            raise TransientError(f"DATABASE_URL: can't connect for replication: {message}")
        return cls(pgconn)

    async def close(self) -> None:
        """Close the socket; the server releases the slot as soon as it notices."""
        self._pgconn.finish()

    async def identify(self) -> SystemIdentity:
        """IDENTIFY_SYSTEM, and TIMELINE_HISTORY where there was more than one."""
        row = (await self._query(b"IDENTIFY_SYSTEM"))[0]
        timeline = int(row[1] or 0)
        history = b""
        if timeline > 1:
            history = (await self._query(b"TIMELINE_HISTORY %d" % timeline))[0][1] or b""
        return SystemIdentity(
            system_identifier=(row[0] or b"").decode(), timeline=timeline, history=parse_history(history)
        )

    async def create_slot(self, slot: str) -> tuple[Lsn, str]:
        """Make the slot; returns its consistent point and the name of the exported snapshot.

        The snapshot lives until the next command on this connection. Waits for transactions that are under way.
        """
        # From PostgreSQL 17 on a standby can keep a copy of the slot, so that it survives a promotion.
        options = b"SNAPSHOT 'export', FAILOVER" if self._pgconn.server_version >= 170000 else b"SNAPSHOT 'export'"
        rows = await self._query(b"CREATE_REPLICATION_SLOT %b LOGICAL pgoutput (%b)" % (slot.encode(), options))
        _, consistent_point, snapshot, _ = rows[0]
        assert consistent_point is not None
        assert snapshot is not None
        return Lsn.parse(consistent_point.decode()), snapshot.decode()

    async def drop_slot(self, slot: str) -> None:
        """Drop the slot. Raises SlotBusyError when somebody reads it."""
        await self._query(b"DROP_REPLICATION_SLOT %b" % slot.encode())

    async def start(self, slot: str, publication: str, start: Lsn) -> None:
        """Take the slot and begin to stream. Raises SlotBusyError when another process has it."""
        command = (
            f"START_REPLICATION SLOT {slot} LOGICAL {start} (proto_version '1', publication_names '{publication}')"
        )
        await self._query(command.encode())
        self._pgconn.nonblocking = 1

    async def _query(self, command: bytes) -> list[list[bytes | None]]:
        result = await asyncio.to_thread(self._pgconn.exec_, command)
        status = result.status
        if status in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            return [
                [result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples)
            ]
        if status == pq.ExecStatus.COPY_BOTH:
            return []
        raise _error(result.error_field(pq.DiagnosticField.SQLSTATE), self._pgconn.get_error_message())

    async def read(self, timeout: float) -> Burst:
        """What has arrived, at most BURST_MESSAGES; waits up to `timeout` seconds for the first.

        Safe to cancel: what was not returned is still there. Raises TransientError when the stream has ended.
        """
        payloads: list[bytes] = []
        frames, keepalive = self._take(payloads, None)
        if frames or await self._readable(timeout):
            # libpq reads a buffer of a few kilobytes at a time: go on until the socket is empty.
            while len(payloads) < BURST_MESSAGES:
                try:
                    self._pgconn.consume_input()
                except Exception as error:
                    raise TransientError("the replication connection was lost") from error
                frames, keepalive = self._take(payloads, keepalive)
                if not frames:
                    break
        return Burst(payloads=payloads, keepalive=keepalive)

    async def _readable(self, timeout: float) -> bool:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[bool] = loop.create_future()

        def wake(value: bool) -> None:
            if not ready.done():
                ready.set_result(value)

        descriptor = self._pgconn.socket
        loop.add_reader(descriptor, wake, True)
        timer = loop.call_later(timeout, wake, False)
        try:
            return await ready
        finally:
            timer.cancel()
            loop.remove_reader(descriptor)

    def _take(self, payloads: list[bytes], keepalive: Keepalive | None) -> tuple[int, Keepalive | None]:
        """Move what libpq holds to `payloads`; returns how many frames that were, and the keepalive at the end.

        A server with a confirmed LSN behind its own sends a keepalive after every transaction: only one that nothing
        follows says that the stream is idle.
        """
        get_copy_data = self._pgconn.get_copy_data
        frames = 0
        while len(payloads) < BURST_MESSAGES:
            size, data = get_copy_data(1)
            if size > 0:
                frames += 1
                frame = parse_frame(data)
                if isinstance(frame, Keepalive):
                    keepalive = frame
                else:
                    payloads.append(frame)
                    keepalive = None
            elif size == 0:
                break
            else:
                result = self._pgconn.get_result()
                sqlstate = result.error_field(pq.DiagnosticField.SQLSTATE) if result else None
                raise _error(sqlstate, self._pgconn.get_error_message() if size == -2 or sqlstate else "")
        return frames, keepalive

    def send_status(self, written: Lsn, flushed: Lsn) -> None:
        """Standby status update: `flushed` is safe for good, the server may forget what is before it.

        Asks for a keepalive in return: on an idle server nothing else tells that all has been read.
        Never blocks; what the socket does not take now goes with the next call.
        """
        now = time.time_ns() // 1000 - POSTGRES_EPOCH_MICROSECONDS
        try:
            self._pgconn.put_copy_data(_STATUS.pack(b"r", max(written, flushed), flushed, flushed, now, 1))
            self._pgconn.flush()
        except Exception as error:
            raise TransientError("the replication connection was lost") from error


def parse_frame(data: memoryview) -> bytes | Keepalive:
    """The payload of an XLogData frame, or a keepalive. Raises DecodeError for anything else."""
    if len(data) >= _XLOG_DATA.size and data[0] == 0x77:  # w
        return data[_XLOG_DATA.size :].tobytes()
    if len(data) == _KEEPALIVE.size and data[0] == 0x6B:  # k
        wal_end, server_time, reply = _KEEPALIVE.unpack(data)
        return Keepalive(
            wal_end=Lsn(wal_end),
            server_time=server_time + POSTGRES_EPOCH_MICROSECONDS,
            reply_requested=bool(reply),
        )
    raise DecodeError("replication: neither data nor a keepalive")


def parse_history(text: bytes) -> tuple[tuple[int, Lsn], ...]:
    """Lines of `timeline<TAB>LSN<TAB>reason`, comments and blank lines between. Raises DecodeError for others."""
    history = []
    for line in text.decode(errors="replace").splitlines():
        if line.strip() and not line.startswith("#"):
            try:
                timeline, lsn = line.split("\t")[:2]
                history.append((int(timeline), Lsn.parse(lsn)))
            except ValueError as error:
                raise DecodeError("replication: malformed timeline history") from error
    return tuple(history)


def _error(sqlstate: bytes | None, message: str) -> PipelineError:
    text = message.strip() or "the server has ended the stream"
    if sqlstate == b"55006":  # object_in_use
        return SlotBusyError(text)
    if sqlstate in (b"42501", b"28000"):
        return PermanentError(
            f"DATABASE_URL: {text}", hint="the user needs the REPLICATION attribute; run python -m database preflight"
        )
    if sqlstate in (b"42704", b"0A000", b"55000", b"58P01", b"42601"):
        return PermanentError(text, hint="run python -m database preflight")
    return TransientError(text)
