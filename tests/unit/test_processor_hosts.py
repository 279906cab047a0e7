"""Attribution: one site has many spellings, and none of them is another client's."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clients import Client, ClientId, Domain
from pipeline.directory import ClientDirectory
from pipeline.hosts import host_of, names_of, normal_name
from pipeline.keys import time_of
from pipeline.record import text_column
from pipeline.stores.memory import MemoryClientStore
from processor.outcome import attribute

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    "spelling",
    [
        "shop.example", "SHOP.example", " Shop.Example ", "shop.example.", "shop.example:8443", "shop.example.:443",
        "https://shop.example/a?b=c#d", "http://Shop.Example:80", "https://u:p@shop.example/", "*.shop.example",
    ],
)  # fmt: skip
def test_all_spellings_of_a_host_are_one(spelling: str) -> None:
    assert normal_name(spelling) == "shop.example"


@pytest.mark.parametrize(
    ("unicode", "punycode"),
    [
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.Example", "XN--BCHER-KVA.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("例え.example", "xn--r8jz45g.example"),
        ("пример\u3002example", "xn--e1afmkfd.example"),
    ],
)
def test_a_name_in_unicode_and_in_punycode_are_one(unicode: str, punycode: str) -> None:
    assert normal_name(unicode) == normal_name(punycode)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("strasse.example", "straße.example"),
        ("tenant:1", "tenant:2"),
        ("a.example", "aexample"),
        ("xn--bcher-kva.example", "bcher.example"),
        ("pаypal.example", "paypal.example"),  # the first with a Cyrillic letter
    ],
)
def test_names_that_differ_stay_different(one: str, other: str) -> None:
    assert set(names_of(one)).isdisjoint(names_of(other))


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://a.example\\@b.example/", "a.example"),
        ("https://b.example@a.example/", "a.example"),
        ("//a.example/x", "a.example"),
        ("http://[broken", None),
        ("about:blank", None),
        ("/path/only", None),
    ],
)
def test_the_host_is_the_one_that_a_browser_would_ask(url: str, host: str | None) -> None:
    assert host_of(url) == host


@given(st.text(st.characters(exclude_characters=":*[]"), max_size=300))
def test_any_text_has_a_normal_form_that_stays_as_it_is(text: str) -> None:
    name = normal_name(text)
    assert normal_name(name) == name
    assert len(names_of(text)) <= 2 + name.count(".")


async def directory(**domains: list[tuple[str, int]]) -> ClientDirectory:
    """Clients by name, with hosts and the day from which each is theirs."""
    store = MemoryClientStore()
    for name, hosts in domains.items():
        client = Client(
            client_id=ClientId(name),
            domains=tuple(Domain(host=host, valid_from=START + day * DAY) for host, day in hosts),
        )
        await store.put(client, actor="t")
    found = ClientDirectory(store)
    await found.refresh()
    return found


@pytest.mark.parametrize(
    ("name", "day", "owner"),
    [
        ("acme.example", 1, "acme"),
        ("www.acme.example", 1, "acme"),
        ("a.b.acme.example", 1, "acme"),
        ("blog.acme.example", 1, "acme"),  # before it was somebody else's
        ("blog.acme.example", 9, "press"),
        ("www.blog.acme.example", 9, "press"),
        ("acme.example", 0, None),
        ("notacme.example", 9, None),
        ("acme.example.evil.test", 9, None),
        ("example", 9, None),
        ("only-www.example", 9, "press"),
        ("shared.example", 9, None),
        ("sub.shared.example", 9, None),
        ("10.0.0.7", 9, None),
        ("", 9, None),
        (".", 9, None),
        ("https://", 9, None),
    ],
)
async def test_the_most_specific_name_that_somebody_had_then_decides(name: str, day: int, owner: str | None) -> None:
    clients = await directory(
        acme=[("Acme.Example.", 1), ("shared.example", 1), ("0.0.7", 1)],
        press=[("blog.acme.example", 5), ("www.only-www.example", 1), ("shared.example", 1), ("https://", 0)],
    )
    assert clients.owner_of(name, START + day * DAY) == owner


class Owners:
    """What attribution asks."""

    def __init__(self, clients: ClientDirectory) -> None:
        self._clients = clients

    def owner_of(self, name: str, at: datetime) -> str | None:
        return self._clients.owner_of(name, at)


INJECTED = r"""{"id":1,"site_id":%s,"url":%s,"path":"x\",\"client_id\":\"evil\",\"site_id\":\"evil.example\"","""
INJECTED += r""""client_id":null,"raw_event_data":{"client_id":"evil","site_id":"evil.example","url":"https://evil.example/"}}"""


@pytest.mark.parametrize(
    ("site_id", "url", "owner"),
    [
        ('"acme.example"', '"https://evil.example/"', "acme"),
        ("null", '"https://acme.example:8443/?site_id=evil.example"', "acme"),
        ('""', r'"https://acme.example\/\"client_id\":\"evil\""', "acme"),
        ('"\\u0061cme.example"', "null", "acme"),
        ('"nobody"', "null", None),
        ("null", "null", None),
        (r'"x\",\"site_id\":\"evil.example"', "null", None),
    ],
)
async def test_what_a_page_writes_into_its_data_attributes_nothing(site_id: str, url: str, owner: str | None) -> None:
    clients = Owners(await directory(acme=[("acme.example", 0)], evil=[("evil.example", 0)]))
    line = (INJECTED % (site_id, url)).encode()
    assert text_column(line, "client_id") is None
    day = int((START + DAY).timestamp()) * 1_000_000
    assert time_of(day) == START + DAY
    assert attribute(line, day, clients) == owner  # type: ignore[arg-type]


async def test_a_client_that_did_not_change_stays_the_same_object() -> None:
    store = MemoryClientStore()
    stored = await store.put(Client(client_id=ClientId("a")), actor="t")
    clients = ClientDirectory(store)
    await clients.refresh()
    before = clients.get("a")
    await clients.refresh()
    assert clients.get("a") is before
    await store.put(replace(stored, is_active=False), actor="t")
    await clients.refresh()
    assert clients.get("a") is not before
