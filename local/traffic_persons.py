"""Made-up persons: what of them must not reach a client of level gdpr or hipaa, and how a page may write it.

E-mails are in domains reserved for examples, phone numbers in ranges reserved for fiction or well-formed and random,
cards have a test prefix and a valid check digit, and addresses are random.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from ipaddress import IPv6Address
from urllib.parse import quote

from local import traffic_words as words

Planted = tuple[str, str]
"""Kind (ip, email, phone, card) and the exact characters that were planted."""

_DOMAINS = ("example.com", "example.org", "example.net", "mail.example.com", "post.example.org")
_CARD_PREFIXES = (("4", 16), ("4242424242", 16), ("55555555", 16), ("2223", 16), ("3782", 15), ("6011", 16))

# Ranges that regulators keep for films: https://en.wikipedia.org/wiki/Fictitious_telephone_number
_INTERNATIONAL = (
    "+1 {a}-555-01{two}",
    "+1 ({a}) 555-01{two}",
    "+1{a}55501{two}",
    "+44 20 7946 0{three}",
    "+44 7700 900{three}",
    "+49 30 23125 {three}",
    "+4930231250{two}",
    "+33 1 99 00 {two} {two}",
    "+61 491 570 {three}",
    "+46 8 465 004 {two}",
)
_NATIONAL = ("({a}) 555-01{two}", "{a}-555-01{two}", "020 7946 0{three}", "030 23125-{three}", "01 99 00 {two} {two}")
_AREAS = ("212", "312", "415", "503", "617", "702", "808")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who doesn't exist."""

    first_name: str
    last_name: str
    email: str
    phone: str
    national_phone: str
    card: str
    address: str
    ip: str

    def planted(self, *kinds: str) -> list[Planted]:
        """The person's values of these kinds, as they are written."""
        return [(kind, getattr(self, kind)) for kind in kinds]


def person(rng: random.Random) -> Person:
    """Another person at each call."""
    first, last = _name(rng), _name(rng)
    separator = rng.choice((".", "_", "", "-"))
    tag = f"+{rng.choice(('shop', 'news', 'x1'))}" if rng.random() < 0.2 else ""
    user = f"{first}{separator}{last}{rng.randrange(10_000)}{tag}"
    email = f"{user.lower() if rng.random() < 0.8 else user}@{rng.choice(_DOMAINS)}"
    return Person(
        first_name=first,
        last_name=last,
        email=email,
        phone=_phone(rng, _INTERNATIONAL),
        national_phone=_phone(rng, _NATIONAL),
        card=card(rng),
        address=f"{rng.randrange(1, 9999)} {rng.choice(words.STREETS)}, {rng.choice(words.TOWNS)}",
        ip=ip_v6(rng) if rng.random() < 0.25 else ip_v4(rng),
    )


def card(rng: random.Random) -> str:
    """A card number with a valid check digit, in one of the ways people write it."""
    prefix, length = rng.choice(_CARD_PREFIXES)
    body = prefix + "".join(str(rng.randrange(10)) for _ in range(length - 1 - len(prefix)))
    digits = body + luhn_digit(body)
    separator = rng.choice(("", "", " ", "-"))
    if length == 15:
        return separator.join((digits[:4], digits[4:10], digits[10:]))
    return separator.join(digits[i : i + 4] for i in range(0, length, 4))


def luhn_digit(body: str) -> str:
    """The check digit that makes `body` a payment card number (ISO/IEC 7812-1, annex B)."""
    doubled = (int(digit) * (2 if index % 2 == 0 else 1) for index, digit in enumerate(reversed(body)))
    return str(-sum(value - 9 if value > 9 else value for value in doubled) % 10)


def ip_v4(rng: random.Random) -> str:
    """A public address. Each part has two digits at least, so that no version number looks like it by chance."""
    first = rng.choice((23, 34, 45, 52, 62, 77, 81, 93, 104, 131, 145, 185, 203, 212))
    return f"{first}.{rng.randrange(16, 250)}.{rng.randrange(16, 250)}.{rng.randrange(16, 250)}"


def ip_v6(rng: random.Random) -> str:
    """An address in the range for documentation (RFC 3849), in its short form."""
    return str(IPv6Address((0x20010DB8 << 96) | (rng.getrandbits(16) << 64) | rng.getrandbits(64)))


def in_url(value: str) -> str:
    """`value` as the value of a query parameter."""
    return quote(value, safe="")


def _name(rng: random.Random) -> str:
    return "".join(rng.choice(words.SYLLABLES) for _ in range(rng.randrange(2, 4))).capitalize()


def _phone(rng: random.Random, patterns: tuple[str, ...]) -> str:
    pattern = rng.choice(patterns)
    return pattern.format(a=rng.choice(_AREAS), two=f"{rng.randrange(100):02d}", three=f"{rng.randrange(1000):03d}")
