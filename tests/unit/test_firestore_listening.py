"""What a stream of Firestore's answers tells, whatever the server repeats."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.cloud.firestore_v1.types import (
    Document,
    DocumentChange,
    DocumentRemove,
    ListenResponse,
    TargetChange,
    Value,
)

from pipeline.errors import TransientError
from pipeline.stores.firestore_listening import Watched

KIND = TargetChange.TargetChangeType
START = datetime(2026, 1, 1, tzinfo=UTC)


def target(kind: TargetChange.TargetChangeType, *ids: int) -> ListenResponse:
    return ListenResponse(target_change=TargetChange(target_change_type=kind, target_ids=ids))


def document(name: str, seconds: int) -> ListenResponse:
    stamp = Value(timestamp_value=START + timedelta(seconds=seconds))
    return ListenResponse(document_change=DocumentChange(document=Document(name=name, fields={"updated_at": stamp})))


def test_first_answers_are_told_of_once_they_are_complete() -> None:
    watched = Watched()
    answers = [target(KIND.ADD, 1), document("a", 0), target(KIND.CURRENT, 1), target(KIND.CURRENT, 2)]
    assert [watched.tells_of_change(answer) for answer in answers] == [False, False, False, True]
    assert not watched.tells_of_change(target(KIND.CURRENT, 1))


def test_only_a_new_stamp_tells_of_a_change_though_all_is_repeated() -> None:
    watched = Watched()
    for answer in (document("a", 0), target(KIND.CURRENT, 1, 2)):
        watched.tells_of_change(answer)
    repeated = [target(KIND.RESET, 1), document("a", 0), document("b", 1), document("a", 2), document("b", 1)]
    assert [watched.tells_of_change(answer) for answer in repeated] == [False, False, True, True, False]
    assert watched.tells_of_change(ListenResponse(document_remove=DocumentRemove(document="a")))


def test_query_that_the_server_gives_up_is_an_error_that_is_tried_again() -> None:
    with pytest.raises(TransientError):
        Watched().tells_of_change(target(KIND.REMOVE, 1))
