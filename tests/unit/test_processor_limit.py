"""Dead letters are capped: a bug of ours stops the processor instead of draining the topic."""

from __future__ import annotations

import pytest

from pipeline.errors import PermanentError
from processor.limit import WINDOW_EVENTS, DeadLetterLimit


def count(limit: DeadLetterLimit, good: int, dead: dict[str, int]) -> None:
    for _ in range(good):
        limit.count("out", "a")
    for client, times in dead.items():
        for _ in range(times):
            limit.count("dead_letter", client)


@pytest.mark.parametrize(
    ("good", "dead"),
    [
        (0, {"a": 50, "b": 49}),
        (9_900, {"a": 60, "b": 40}),
        (0, {"a": 5_000}),
        (0, {"": 99}),
        (100_000, {"": 500, "a": 200}),
    ],
)
def test_few_dead_letters_or_one_clients_alone_are_no_bug_of_ours(good: int, dead: dict[str, int]) -> None:
    count(DeadLetterLimit(), good, dead)


@pytest.mark.parametrize(
    ("good", "dead"),
    [(0, {"a": 50, "b": 50}), (9_800, {"a": 99, "b": 2}), (0, {"a": 5_000, "b": 1}), (0, {"": 100})],
)
def test_many_of_several_clients_or_of_no_client_stop_the_processor(good: int, dead: dict[str, int]) -> None:
    with pytest.raises(PermanentError, match="can't be processed"):
        count(DeadLetterLimit(), good, dead)


def test_a_good_past_excuses_no_bad_present() -> None:
    limit = DeadLetterLimit()
    count(limit, 5 * WINDOW_EVENTS, {})
    with pytest.raises(PermanentError):
        count(limit, 0, {"a": 10_000, "b": 5_000})
