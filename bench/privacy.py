"""The privacy engine alone: events/s on one core for each level, beside a plain baseline, as JSON.

    python -m bench privacy [--events N]

The baseline is what one writes in an afternoon: orjson, recursion, a set of field names, one combined regular
expression, orjson again. It finds less, and changes the spelling of what it doesn't touch.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

import orjson

from pipeline.clients import Client, ClientId, PrivacyLevel
from pipeline.privacy import compile_policy

_AGENTS = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.{} "
    "Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:{0}.0) Gecko/20100101 Firefox/{0}.0",
]


_TYPES = ["pageview", "click", "scroll", "product_view", "pageview", "click", "purchase", "lead_form_submit"]


def event(number: int) -> bytes:
    """One record of about 1.3 kB: three of four page views and clicks, the rest forms and purchases."""
    pick = random.Random(number)
    kind = pick.choice(_TYPES)
    session, visitor = (f"{name}_{pick.getrandbits(64):016x}" for name in ("sess", "vis"))
    path = f"/products/{pick.choice(['shirts', 'shoes', 'hats'])}/{pick.randrange(10_000)}"
    query = "?utm_source=google&utm_medium=cpc"
    if pick.random() < 0.3:
        query += f"&gclid=Cj0KCQ{pick.getrandbits(60):x}"
    agent = pick.choice(_AGENTS).format(pick.randrange(100, 130))
    data: dict[str, Any] = {"elementId": f"el-{pick.randrange(500)}", "depth": pick.randrange(100)}
    if kind in ("product_view", "purchase"):
        data = {
            "sku": f"SKU-{pick.randrange(10**6):06d}",
            "name": "Blue shirt",
            "price": pick.randrange(1, 10_000) / 100,
            "currency": "EUR",
            "quantity": pick.randrange(1, 4),
        }
    if kind == "lead_form_submit":
        data = {"formId": "contact", "email": f"jane{number}@example.com", "phone": "+1 202 555 0143"}
        data["first_name"] = "Jane"
    minute = f"2026-11-23T06:{pick.randrange(60):02d}:{pick.randrange(60):02d}"
    raw = {
        "url": "https://shop.example.com" + path + query,
        "dnt": False,
        "gpc": pick.random() < 0.05,
        "page": {"title": pick.choice(["Blue shirt – Example Shop", "Shoes – Example Shop"])},
        "consent": {"analytics": pick.random() < 0.6, "marketing": pick.random() < 0.3},
        "browser": {
            "screen": pick.choice(["1920x1080", "390x844"]),
            "language": "en-US",
            "timezone": "Europe/Berlin",
            "viewport": f"{pick.randrange(300, 2000)}x{pick.randrange(300, 1200)}",
            "userAgent": agent,
        },
        "referrer": pick.choice(["https://www.google.com/", "", "https://shop.example.com/"]),
        "siteId": f"site_{pick.randrange(50)}",
        "eventData": data,
        "eventType": kind,
        "sessionId": session,
        "timestamp": f"{minute}.{pick.randrange(1000):03d}Z",
        "visitorId": visitor,
    }
    columns = {
        "id": number,
        "event_id": str(uuid.UUID(int=pick.getrandbits(128))),
        "event_type": kind,
        "session_id": session,
        "visitor_id": visitor,
        "site_id": raw["siteId"],
        "timestamp": f"{minute}.{pick.randrange(10**6):06d}Z",
        "url": raw["url"],
        "path": path,
        "user_agent": agent,
        "ip_address": f"203.0.113.{pick.randrange(256)}",
        "created_at": f"{minute}.{pick.randrange(10**6):06d}Z",
        "client_id": "client_1",
        "batch_id": None,
    }
    head = json.dumps(columns, separators=(",", ":"))
    return f'{head[:-1]},"raw_event_data":{json.dumps(raw, ensure_ascii=False)}}}'.encode()


_FIELDS = frozenset(
    ("email", "phone", "first_name", "last_name", "name", "address", "ip_address", "user_agent", "userAgent")
)
_PATTERN = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+|\+?\d[\d ()-]{8,}\d|\d{1,3}(?:\.\d{1,3}){3}|(?:\d[ -]?){13,19}")


def baseline(line: bytes) -> bytes:
    """orjson, recursion, one combined expression."""
    return orjson.dumps(_plain(orjson.loads(line)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: "[REDACTED]" if name in _FIELDS else _plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_plain(member) for member in value]
    if isinstance(value, str):
        return _PATTERN.sub("[REDACTED]", value)
    return value


def rate(run: Callable[[bytes], object], lines: list[bytes]) -> float:
    """Events per second of CPU time over lines that `run` sees for the first time, the best of three parts of them."""
    size = len(lines) // 3
    best = 0.0
    for start in range(0, 3 * size, size):
        part = lines[start : start + size]
        began = time.process_time()
        for line in part:
            run(line)
        best = max(best, size / (time.process_time() - began))
    return best


def repeats(lines: list[bytes]) -> float:
    """The share of strings that stood in an earlier line, keys aside: what a memory of strings can live on."""
    seen: set[str] = set()
    known = total = 0
    for line in lines:
        strings = _strings(orjson.loads(line))
        known += sum(string in seen for string in strings)
        total += len(strings)
        seen.update(strings)
    return known / total


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [string for member in value.values() for string in _strings(member)]
    return [value] if isinstance(value, str) else []


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this part."""
    parser.add_argument("--events", type=int, default=12_000)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All levels and the baseline, in one run, each over the same distinct events after as many others to warm up."""
    warm = [event(number) for number in range(options.events, options.events + 2_000)]
    lines = [event(number) for number in range(options.events)]

    def measured(run: Callable[[bytes], object]) -> float:
        for line in warm:
            run(line)
        return rate(run, lines)

    plain = measured(baseline)
    result: dict[str, Any] = {
        "events": len(lines),
        "mean_bytes": round(sum(map(len, lines)) / len(lines)),
        "strings_seen_before": round(repeats(lines), 3),
        "baseline_events_per_second": round(plain),
        "orjson_loads_events_per_second": round(measured(orjson.loads)),
    }
    for level in PrivacyLevel:
        client = Client(client_id=ClientId("client_1"), privacy_level=level)
        fast = measured(compile_policy(client, pseudonym_keys={1: b"k" * 32}).apply)
        result[level.value] = {
            "events_per_second": round(fast),
            "microseconds_per_event": round(1e6 / fast, 1),
            "of_baseline": round(fast / plain, 2),
        }
    return result
