"""The free part of a made-up event, `eventData`: what pages put there, by event type."""

from __future__ import annotations

import random
from typing import Any

import orjson

from local import traffic_words as words
from local.traffic_persons import Person, Planted

LARGE_RATIO = 0.001
HUGE_RATIO = 0.00005
HUGE_CHARACTERS = 1_300_000
"""More than a Kafka topic takes by default (1 MiB)."""

_FILLER = "The quick delivery of a wobbling chair, reviewed at length and without hurry. "


def free_text(rng: random.Random, who: Person, planted: list[Planted]) -> str:
    """A sentence that somebody typed; what it holds of `who` is added to `planted`."""
    text = rng.choice(words.MESSAGES)
    planted += [(kind, getattr(who, kind)) for kind in ("phone", "email", "ip", "card") if "{" + kind + "}" in text]
    return text.format(phone=who.phone, email=who.email, address=who.address, ip=who.ip, card=who.card)


def event_data(rng: random.Random, kind: str, who: Person, planted: list[Planted]) -> dict[str, Any]:
    """The `eventData` of an event of type `kind`. Adds to `planted`."""
    data = _BODIES.get(kind, _plain)(rng, who, planted)
    chance = rng.random()
    if chance < 0.25:
        data["note"] = rng.choice(words.ODD_TEXTS)
        data["measure"] = orjson.Fragment(rng.choice(words.ODD_NUMBERS))
    elif chance < 0.33:
        data["comment"] = free_text(rng, who, planted)
    elif chance < 0.36:
        data["payload"] = _json_in_text(rng, who, planted)
    elif chance > 1 - HUGE_RATIO:
        data["attachment"] = _FILLER * (HUGE_CHARACTERS // len(_FILLER) + 1)
    elif chance > 1 - LARGE_RATIO:
        data["html"] = _FILLER * rng.randint(100, 1000)
    return data


def _json_in_text(rng: random.Random, who: Person, planted: list[Planted]) -> str:
    """A document as a string in a document, sometimes twice over."""
    planted += who.planted("email", "phone")
    inner: dict[str, Any] = {"user": {"email": who.email, "tel": who.phone, "deep": {"list": [1, {"x": None}]}}}
    if rng.random() < 0.3:
        inner = {"wrapped": orjson.dumps(inner).decode()}
    return orjson.dumps(inner).decode()


def _plain(rng: random.Random, _who: Person, _planted: list[Planted]) -> dict[str, Any]:
    return {
        "loadTimeMs": round(rng.random() * 4000, 3),
        "element": {
            "tag": rng.choice(("a", "button", "div")),
            "id": f"el-{rng.randrange(400)}",
            "classes": ["cta", "big"],
        },
        "position": {"x": rng.randrange(1900), "y": rng.randrange(6000)},
        "depth": rng.choice((25, 50, 75, 90, 100)),
        "experiments": {"checkout-button": rng.choice(("control", "b")), "hero": None},
    }


def _click(rng: random.Random, who: Person, planted: list[Planted]) -> dict[str, Any]:
    data = _plain(rng, who, planted)
    data["text"] = rng.choice(("Buy now", "Mehr erfahren", "次へ", "Contact us"))
    if rng.random() < 0.1:
        planted += who.planted("email")
        data["href"] = f"mailto:{who.email}"
    return data


def _form(rng: random.Random, who: Person, planted: list[Planted]) -> dict[str, Any]:
    # A field's name says that it is a phone number, so it may be written as people write it at home.
    phone = who.national_phone if rng.random() < 0.4 else who.phone
    planted += [("email", who.email), ("phone", phone)]
    english = rng.random() < 0.6
    fields = (
        {
            "first_name": who.first_name,
            "lastName": who.last_name,
            "email": who.email,
            "phone_number": phone,
            "streetAddress": who.address,
            "message": free_text(rng, who, planted),
            "newsletter": True,
        }
        if english
        else {
            "vorname": who.first_name,
            "nachname": who.last_name,
            "e-mail": who.email,
            "telefon": phone,
            "anschrift": who.address,
            "nachricht": free_text(rng, who, planted),
            "datenschutz": "ja",
        }
    )
    return {
        "formId": f"form-{rng.randrange(9)}",
        "formName": "contact",
        "fields": fields,
        "durationMs": rng.randrange(90_000),
    }


def _focus(rng: random.Random, _who: Person, _planted: list[Planted]) -> dict[str, Any]:
    return {"formId": f"form-{rng.randrange(9)}", "field": rng.choice(("email", "phone", "message")), "value": ""}


def _item(rng: random.Random) -> dict[str, Any]:
    cents = rng.randrange(100, 20_000)
    return {
        "sku": f"SKU-{rng.randrange(10_000):05d}",
        "name": rng.choice(words.PRODUCTS),
        "price": orjson.Fragment(f"{cents // 100}.{cents % 100:02d}".encode()),
        "quantity": rng.randint(1, 3),
    }


def _product(rng: random.Random, who: Person, planted: list[Planted]) -> dict[str, Any]:
    return {**_plain(rng, who, planted), "product": _item(rng), "currency": rng.choice(("EUR", "USD", "JPY"))}


def _purchase(rng: random.Random, who: Person, planted: list[Planted]) -> dict[str, Any]:
    planted += who.planted("email")
    data: dict[str, Any] = {
        "orderId": f"ORD-{rng.getrandbits(40):010x}",
        "total": orjson.Fragment(b"1.10"),
        "currency": "EUR",
        "items": [_item(rng) for _ in range(rng.randint(1, 4))],
        "billing": {"name": f"{who.first_name} {who.last_name}", "email": who.email, "address": who.address},
    }
    if rng.random() < 0.5:
        planted += who.planted("card")
        data["payment"] = {"method": "card", "cardNumber": who.card, "expiry": "12/29"}
    return data


def _signup(rng: random.Random, who: Person, planted: list[Planted]) -> dict[str, Any]:
    planted += who.planted("email")
    return {
        "email": who.email,
        "username": f"{who.first_name}{rng.randrange(99)}",
        "plan": "pro",
        "userId": rng.getrandbits(40),
    }


_BODIES = {
    "click": _click,
    "form_submit": _form,
    "lead_form_submit": _form,
    "form_focus": _focus,
    "purchase": _purchase,
    "begin_checkout": _product,
    "product_view": _product,
    "add_to_cart": _product,
    "signup": _signup,
    "subscription": _signup,
}
