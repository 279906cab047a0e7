"""One partition in the hands of this processor: records in, a chunk that is written when its time comes."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable

from aiokafka import ConsumerRecord

from database.ledger import Pool
from database.ledger.chunks import ConsumerPosition
from pipeline import metrics
from pipeline.errors import PoisonError
from pipeline.kafka import is_fence, is_pointer, read_headers
from pipeline.keys import source_client_id
from pipeline.position import Position
from pipeline.record import text_column
from pipeline.s3 import ObjectStore
from processor.chunk import Chunk
from processor.limit import DeadLetterLimit
from processor.outcome import Outcome, Policies, dead_letter, decide
from processor.refill import refill
from processor.sequence import Verdict, judge
from processor.writer import Writer


class Partition:
    """From assignment to revocation; then it is dropped with what it gathered, and the new owner reads it again."""

    def __init__(
        self,
        *,
        number: int,
        topic: str,
        generation: int,
        stand: ConsumerPosition,
        first_offset: int,
        policies: Policies,
        writer: Writer,
        pool: Pool,
        raw_bucket: ObjectStore,
        limit: DeadLetterLimit,
        clock: Callable[[], float],
        turned: Callable[[], None],
    ) -> None:
        self.number = number
        self._topic = topic
        self._generation = generation
        self._policies = policies
        self._writer = writer
        self._pool = pool
        self._raw_bucket = raw_bucket
        self._limit = limit
        self._clock = clock
        self._turned = turned
        self._stand = stand
        self._expected_offset = first_offset
        self._chunk: Chunk | None = None
        self._seen: Counter[str] = Counter()
        self._redacted: Counter[str] = Counter()

    @property
    def stand(self) -> ConsumerPosition:
        """Where it stands, with what is gathered and not written yet."""
        return self._stand if self._chunk is None else self._chunk.after

    @property
    def next_offset(self) -> int:
        """The offset up to which everything is written."""
        return self._stand.next_offset

    @property
    def last_sequence(self) -> int:
        """The sequence up to which everything is written."""
        return self._stand.last_sequence

    @property
    def expected_offset(self) -> int:
        """The offset of the record to come."""
        return self._expected_offset

    @property
    def gathered_bytes(self) -> int:
        """What the open chunk holds."""
        return 0 if self._chunk is None else self._chunk.bytes

    def age_seconds(self, now: float) -> float:
        """How long the oldest record has been waiting."""
        return 0.0 if self._chunk is None else now - self._chunk.opened_at

    async def take(self, record: ConsumerRecord) -> None:
        """Take one record; may write the chunk, when that is full or the record doesn't fit into it.

        A record at another offset than the next was fetched before a seek: it is passed over and comes again. Raises
        PermanentError for too many dead letters, a stranger's record, or a hole that raw files can't fill.
        """
        if record.offset != self._expected_offset:
            return
        self._expected_offset += 1
        chunk = self._open()
        if is_fence(record):
            chunk.add_nothing(chunk.last_position, chunk.last_sequence)
            chunk.passed(record.offset)
            return
        position, sequence, commit_time = read_headers(record)
        verdict = judge(chunk, sequence, position)
        if verdict is Verdict.REPEAT:
            chunk.add_repeat(_source_client_id(record.value), position, commit_time)
            self._seen["repeat"] += 1
        else:
            pointer = is_pointer(record)
            if verdict is Verdict.HOLE or pointer:
                await self._refill(sequence, position, commit_time if pointer else None)
            if not pointer:
                await self._add(record.value, position, sequence, commit_time)
            chunk = self._open()
        chunk.passed(record.offset)
        if chunk.is_full:
            await self.write()

    async def take_end(self, sequence: int, position: Position) -> None:
        """Take what raw files hold up to the event (`sequence`, `position`), where Kafka holds nothing more.

        Raises like `take`.
        """
        if self.stand.last_sequence < sequence:
            await self._refill(sequence + 1, position, None, is_end=True)

    async def _refill(
        self, sequence: int, position: Position, pointer_commit_time: int | None, *, is_end: bool = False
    ) -> None:
        stand = self.stand
        missing = refill(
            self._pool,
            self._raw_bucket,
            partition=self.number,
            topic=self._topic,
            stand=stand,
            sequence=sequence,
            position=position,
            pointer_commit_time=pointer_commit_time,
            is_end=is_end,
            turned=self._turned,
        )
        refilled = stand.last_sequence
        async for at, commit_time, line in missing:
            refilled += 1
            if line is None:
                self._open().add_nothing(at, refilled)
            else:
                await self._add(line, at, refilled, commit_time)
            if self._open().is_full:
                await self.write()

    async def _add(self, line: bytes, position: Position, sequence: int, commit_time: int) -> None:
        try:
            client_id = text_column(line, "client_id")
            outcome = decide(line, client_id, position, commit_time, self._policies)
            source = source_client_id(client_id)
        except PoisonError as error:
            outcome = Outcome("dead_letter", "dead_letter", "", dead_letter(line, str(position), str(error)))
            source = "!"
        self._limit.count(outcome.disposition, outcome.client_id)
        if self._chunk is not None and not self._chunk.fits(outcome, commit_time):
            await self.write()
        self._open().add(outcome, source, position, sequence, commit_time)
        self._seen[outcome.disposition] += 1
        if outcome.kinds:
            self._redacted.update(outcome.kinds)

    def report(self) -> int:
        """Tell the metrics what was taken since the last time: for each event alone it would cost too much.

        Returns how many events that were.
        """
        taken = self._seen.total()
        for disposition, count in self._seen.items():
            metrics.CONSUMED_EVENTS.labels(disposition).inc(count)
        for rule, count in self._redacted.items():
            metrics.REDACTIONS.labels(rule).inc(count)
        self._seen.clear()
        self._redacted.clear()
        return taken

    def _open(self) -> Chunk:
        if self._chunk is None:
            self._chunk = Chunk(uuid.uuid4(), self._stand, self._clock())
        return self._chunk

    async def write(self) -> None:
        """Write the open chunk, if there is one; after an error it is void. Raises what `Writer.write` raises."""
        if self._chunk is not None:
            chunk, self._chunk = self._chunk, None
            await self._writer.write(chunk, self.number, self._generation)
            self._stand = chunk.after


def _source_client_id(line: bytes | None) -> str:
    if line is None:
        return "!"
    try:
        return source_client_id(text_column(line, "client_id"))
    except PoisonError:
        return "!"
