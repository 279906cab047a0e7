"""Direct requests: what counts as an answer, and what botocore is asked to try."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from pipeline.s3_direct import Answer, Direct, Transport
from pipeline.sigv4 import Keys

MALFORMED = b"<Error><Code>AuthorizationHeaderMalformed</Code></Error>"


class Store:
    """In place of the network: answers in order, and what was asked for."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes] | Exception] = []
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    async def send(self, request: Any) -> Any:
        body = request.body
        if isinstance(body, AsyncIterator):
            body = b"".join([block async for block in body])
        self.asked.append((request.method, request.url, dict(request.headers), body or b""))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Reply(*answer)


class Reply:
    def __init__(self, status: int, content: bytes) -> None:
        self.status_code = status
        self.headers = {"etag": '"e"'}
        self._content = content

    @property
    async def content(self) -> bytes:
        return self._content


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store()
    monkeypatch.setattr(Transport, "send", lambda _, request: made.send(request))
    return made


@pytest.fixture
async def direct() -> AsyncIterator[Direct]:
    async with Direct(
        bucket="b-1",
        region="us-east-1",
        endpoint_url="http://store.example",
        keys=Keys(access_key="a", secret_key="s"),
        max_connections=1,
        connector={},
    ) as opened:
        yield opened


async def test_success_and_a_taken_key_are_answers_and_nothing_else_is(direct: Direct, store: Store) -> None:
    store.answers = [
        (200, b"x"), (412, b""), (404, b""), (403, b""), (400, b"RequestTimeout"), (503, b""), (206, b""), (307, b""),
        OSError(), TimeoutError(), ReadTimeoutError(endpoint_url="e"), (200, b"y"),
    ]  # fmt: skip
    answers = [await direct.send("GET", "k", headers={}) for _ in range(len(store.answers))]
    assert answers[0] == Answer(status=200, headers={"etag": '"e"'}, content=b"x")
    assert answers[1] is not None
    assert answers[1].status == 412
    assert answers[2:-1] == [None] * 9
    assert answers[-1] is not None  # a failure is no reason to stop


@pytest.mark.parametrize("answer", [(301, b""), (400, MALFORMED)])
async def test_bucket_of_another_region_is_left_to_botocore_from_then_on(
    direct: Direct, store: Store, answer: tuple[int, bytes]
) -> None:
    store.answers = [answer]
    assert [await direct.send("GET", "k", headers={}) for _ in range(3)] == [None] * 3
    assert len(store.asked) == 1


async def test_file_is_sent_from_where_it_stands_with_its_length_and_its_query(direct: Direct, store: Store) -> None:
    store.answers = [(200, b"")]
    body = io.BytesIO(b"..part")
    body.seek(2)
    await direct.send("PUT", "a b", query="partNumber=1&uploadId=u", headers={"x-amz-meta-a": "1"}, body=body, size=4)
    ((method, url, headers, sent),) = store.asked
    assert (method, url, sent) == ("PUT", "http://store.example/b-1/a%20b?partNumber=1&uploadId=u", b"part")
    assert headers["content-length"] == "4"
    assert headers["x-amz-meta-a"] == "1"
    assert "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-meta-a," in headers["authorization"]
