"""From a member's name to what it labels: `billingEmail`, `courriel_client` and `電話番号` are data of a person.

A name is folded (case, accents, width) and split into words at separators, capitals and digits. A known name counts
with known words before and behind it (`billing_email_2`), unless its last word turns it into something else
(`email_template`, `phone_model`). Pure functions of the name: callers keep the answers.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from pipeline.privacy import vicinity, words


class Name(NamedTuple):
    """What a member's name labels. `group` decides which levels act on it, `kind` is printed in the redaction."""

    group: str
    kind: str


_LETTERS = str.maketrans(
    {"ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "AE", "ł": "l", "Ł": "L", "ı": "i", "đ": "d", "ð": "d", "þ": "th"}
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_A-Za-z]+")
_UMLAUT = re.compile("([aouAOU])e(?![aeiou])")
_STEP = re.compile(r"[^.\[\]/]+")
_REMARK = re.compile(
    r"\((?:required|optional|mandatory|pflicht\w{0,8}|oblig\w{0,10}|facultati\w{0,3}|opcional)\)$", re.I
)
_LONGEST = 96


def fold(name: str) -> str:
    """`name` without accents, in plain width, case kept."""
    if name.isascii():
        return name
    decomposed = unicodedata.normalize("NFKD", name.translate(_LETTERS))
    return "".join(char for char in decomposed if not unicodedata.combining(char))


def _lower(word: str) -> str:
    return word.lower().replace("ς", "σ")  # Greek has two, by place in the word


def split(name: str) -> list[str]:
    """The words of a name, folded, in lower case; digits are words of their own."""
    return [_lower(word) for word in _WORD.findall(fold(name[:_LONGEST]))]


def _table(text: str) -> frozenset[str]:
    return frozenset(_lower(fold(word)) for word in text.split())


_GROUPS: tuple[tuple[str, str, str], ...] = (
    # The first group that has a word owns it.
    ("agent", "user_agent", words.AGENT),
    ("click", "click_id", words.CLICK_ID),
    ("session", "session_id", words.SESSION_ID),
    ("visitor", "visitor_id", words.VISITOR_ID),
    ("record", "medical_record", words.RECORD),
    ("user", "user_id", words.USER_ID),
    ("ip", "ip", words.IP),
    ("pii", "email", words.EMAIL),
    ("pii", "phone", words.PHONE),
    ("pii", "name", words.NAME),
    ("pii", "username", words.USERNAME),
    ("zip", "postal_code", words.POSTAL_CODE),
    ("pii", "address", words.ADDRESS),
    ("pii", "birth_date", words.BIRTH),
    ("pii", "national_id", words.NATIONAL_ID),
    ("pii", "payment_card", words.CARD),
    ("pii", "bank_account", words.BANK),
    ("pii", "credential", words.CREDENTIAL),
    ("pii", "mac", words.MAC),
    ("pii", "coordinates", words.COORDINATES),
    ("pii", "vehicle", words.VEHICLE),
    ("pii", "biometric", words.SIGNATURE),
    ("hipaa", "place", words.PLACE),
    ("hipaa", "health_plan", words.HEALTH_PLAN),
    ("hipaa", "licence", words.LICENCE),
    ("hipaa", "device", words.DEVICE),
    ("hipaa", "account", words.ACCOUNT),
    ("hipaa", "photo", words.PHOTO),
    ("hipaa", "employer", words.EMPLOYER),
    ("hipaa", "url", words.WEBSITE),
    ("date", "date", words.DATE),
    ("age", "age", words.AGE),
    ("free", "free_text", words.FREE_TEXT),
    ("name", "name", words.AMBIGUOUS_NAME),
)

_KNOWN: dict[str, Name] = {}
for _group, _kind, _text in _GROUPS:
    for _word in _table(_text):
        _KNOWN.setdefault(_word, Name("pii" if _group == "record" else _group, _kind))
for _word in _table(words.RECORD):
    _KNOWN[_word] = Name("hipaa", "medical_record")

_PREFIXES = _table(vicinity.PREFIXES) | _table(vicinity.PEOPLE)
_AROUND = _PREFIXES | _table(vicinity.SUFFIXES)
_NEUTRAL = _table(vicinity.NEUTRAL_HEADS)
_PEOPLE = _table(vicinity.PEOPLE)
_THINGS = _table(vicinity.THINGS)
_FORMS = _table(vicinity.FORMS)
_THING_SIGNS = _table(vicinity.THING_SIGNS)
_ALLOWED = _table(vicinity.TEXT_ALLOWED)
_NAME_NOUNS = _table(words.AMBIGUOUS_NAME)
_HOLDERS = words.table(vicinity.HOLDERS)
_CONNECTORS = words.table(vicinity.CONNECTORS)
_ABBREVIATIONS = dict(pair.split(":") for pair in vicinity.ABBREVIATIONS.split())
_ENGLISH = re.compile(rf"(?:{'|'.join(sorted(vicinity.ENGLISH.split(), key=len, reverse=True))})+")
_AGENT_TEXTS = frozenset(("string", "raw", "full", "value", "text", "header"))
_NUMBERS = frozenset(("number", "no", "nr", "num", "id"))
_PERSON = Name("pii", "name")
_STRONG = frozenset(("pii", "zip"))
_WEAK = frozenset(("hipaa", "date", "age", "free"))
_OWNERS = _PEOPLE | words.table(vicinity.NAME_OWNERS)
_QUESTIONS = words.table(vicinity.QUESTIONS)

# These mean themselves only when nothing unknown stands before them: `table_cell`, `file_zip`, `hash_address`.
_TIMID = words.table(vicinity.TIMID)


def classify(name: str) -> Name | None:
    """What `name` labels; None when it labels nothing personal or nothing known."""
    if name == "_gl":  # Google's cross-domain linker
        return Name("click", "click_id")
    if name[-1:] == ")":
        name = _REMARK.sub("", name)
    parts = split(name[:-3] if name.endswith("__c") else name)  # Salesforce's own fields
    if not parts:
        return None
    full = "".join(parts)
    found = _KNOWN.get(full)
    if found:
        return found
    parts = [_ABBREVIATIONS.get(part, part) for part in parts if not part.isdigit()]
    if not parts:
        return None
    joined = "".join(parts)
    found = _KNOWN.get(_singular(joined))
    if found:
        return found
    if len(parts) == 1:
        return _compound(joined)
    slim = [part for part in parts[:-1] if part not in _HOLDERS] + parts[-1:]
    found = _KNOWN.get("".join(slim)) if len(slim) < len(parts) else None
    if found:
        return found
    if (parts[0] in _QUESTIONS and not _foreign(parts[1])) or parts[-1] in _NEUTRAL:
        return None
    return (
        _phrase(parts)
        or _compound(joined)
        or _listed(name, parts)
        or _dotted(name)
        or (classify(name[: name.index("(")]) if "(" in name else None)
        or _german(name)
    )


def neutral(name: str) -> bool:
    """Whether `name` says that it describes something other than the person, even below `address` or `phone`."""
    parts = [part for part in split(name) if not part.isdigit()]
    return bool(parts) and (parts[-1] in _NEUTRAL or parts[0] in _QUESTIONS)


def owner(name: str) -> str:
    """Whose members an object of this name holds: `user` for `currentUser`, `session` for `session_info`."""
    parts = [part for part in split(name) if not part.isdigit()]
    while len(parts) > 1 and parts[-1] in _HOLDERS:
        parts.pop()
    return parts[-1] if parts else ""


def people(name: str) -> bool:
    """Whether an object of this name describes a person."""
    parts = split(name)
    return "".join(parts) in _PEOPLE or (bool(parts) and parts[-1] in _PEOPLE)


def things(name: str) -> bool:
    """Whether an object of this name describes a thing, so that its `name` is no person's."""
    parts = split(name)
    return "".join(parts) in _THINGS or (bool(parts) and parts[-1] in _THINGS)


def forms(name: str) -> bool:
    """Whether an object of this name holds what somebody put into a form."""
    return "".join(split(name)) in _FORMS


def thing_sign(name: str) -> bool:
    """Whether a member of this name stands beside names of things: a price, a SKU."""
    return "".join(split(name)) in _THING_SIGNS


def text_allowed(name: str) -> bool:
    """Whether the hipaa level lets a text under this name through, detectors applied."""
    parts = split(name)
    return bool(parts) and ("".join(parts) in _ALLOWED or parts[0] == "utm")


def _singular(word: str) -> str:
    """A known word for a plural of it."""
    if word not in _KNOWN and word[-1:] == "s" and len(word) > 4:
        for ending in ("s", "es"):
            if word.removesuffix(ending) in _KNOWN:
                return word.removesuffix(ending)
    return word


def _phrase(parts: list[str]) -> Name | None:
    """The longest known name in consecutive words. What is around it must be known, or stand before a bold name."""
    count = len(parts)
    if parts[-1] in _NAME_NOUNS:
        if all(part in _OWNERS for part in parts[:-1]):
            return _PERSON
        endings = (_KNOWN.get("".join(parts[start:])) for start in range(1, count - 1))
        return next((found for found in endings if found == _PERSON), None)
    if parts[0] in _NAME_NOUNS and parts[-1] in _PEOPLE and _PEOPLE.union(_CONNECTORS).issuperset(parts[1:]):
        return _PERSON
    weak: Name | None = None
    for size in range(min(count, 6), 0, -1):
        for start in range(count - size, -1, -1):
            known = _singular("".join(parts[start : start + size]))
            found = _KNOWN.get(known)
            if found and (
                (found.group == "free" and parts[-1] in _NUMBERS)
                or (found.group == "agent" and not _AGENT_TEXTS.issuperset(parts[start + size :]))
            ):
                continue
            if not found or not (
                all(part in _AROUND for part in parts[start + size :])
                or (found.group in _STRONG and known not in _TIMID and _foreign(known))
            ):
                continue
            if (known not in _TIMID and start + size == count) or all(part in _PREFIXES for part in parts[:start]):
                if found.group not in _WEAK:
                    return found
                weak = weak or found
    return weak


def _german(name: str) -> Name | None:
    """`empfaengerName`: umlauts that are written as two letters."""
    plain = _UMLAUT.sub(r"\1", name[:_LONGEST])
    found = classify(plain) if plain != name[:_LONGEST] else None
    return found if found and found.group in _STRONG else None


def _dotted(name: str) -> Name | None:
    """A name that is a path, `payload.contact.mobile`, `data[contact][mobile]`: what its last two steps label."""
    steps = _STEP.findall(name[:_LONGEST])
    return classify(" ".join(steps[-2:])) if len(steps) > 2 else None


def _listed(name: str, parts: list[str]) -> Name | None:
    """Several names in one, `PLZ / Ort`, `Ulice a číslo`: each word is known."""
    wanted = [part for part in parts if part not in _CONNECTORS]
    found = [_KNOWN.get(part) for part in wanted]
    joined = len(wanted) < len(parts) or "/" in name or "," in name or "&" in name
    if not joined and sum(known is not None and known.group in _STRONG for known in found) < 2:
        return None
    parts = wanted
    if all(known or part in _AROUND for known, part in zip(found, parts, strict=True)):
        return next((known for known in found if known and known.group in _STRONG), None)
    return None


@lru_cache(maxsize=4096)
def _foreign(word: str) -> bool:
    """Whether a known name isn't English. What follows it then says whose it is, `telefon_klienta`.

    In English the last word says what it is: `phone_case`.
    """
    return word in _KNOWN and word not in _NAME_NOUNS and not _ENGLISH.fullmatch(word)


def _compound(joined: str) -> Name | None:
    """Names written without separators, `billingemail`, `telefoncliente`."""
    for cut in range(4, len(joined) - 2):
        head, tail = joined[:cut], joined[cut:]
        found = _KNOWN.get(tail)
        if (
            found
            and head in _PREFIXES
            and tail not in _NAME_NOUNS
            and (len(tail) > 3 or tail in ("tel", "dob", "ssn", "zip"))
        ):
            return found
        if found and found.group in _STRONG and len(tail) > 5 and tail not in _TIMID and _foreign(tail):
            return found  # `toimitusosoite`, `kundenvorname`
        found = _KNOWN.get(head)
        if found and found.group == "free" and tail in _NUMBERS:
            continue
        if found and tail in _AROUND and len(tail) > 3 and head not in _NAME_NOUNS:
            return found
    return None
