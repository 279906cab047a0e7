"""JSON inside a text: every document is found, in linear time."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.privacy import embedded

LEAVES = st.text(max_size=8) | st.integers() | st.none()
DOCUMENTS = st.dictionaries(
    st.text(max_size=8),
    LEAVES | st.lists(LEAVES | st.dictionaries(st.text(max_size=8), LEAVES), max_size=3),
    min_size=1,
)


@settings(max_examples=40)
@given(st.lists(DOCUMENTS, min_size=1, max_size=4), st.sampled_from(["", "\n", " and ", ";"]))
def test_documents_that_follow_each_other_are_found(documents: list[dict[str, object]], between: str) -> None:
    text = between.join(json.dumps(document) for document in documents)
    found = [json.loads(text[start:end]) for start, end in embedded.documents(text)]
    assert found == documents


@given(st.text(alphabet='{}[]":,a\\ '))
def test_any_text_has_documents_in_order_or_none(text: str) -> None:
    last = 0
    for start, end in embedded.documents(text):
        assert last <= start < end <= len(text)
        last = end


def test_brackets_that_never_close_are_read_once() -> None:
    assert list(embedded.documents('[["' * 300_000)) == []
