"""Numbers in text: which are a phone, a card or a national id, and which just count something.

A candidate is a run of digits with the separators that people write into numbers. Its shape (`999-99-9999`), its check
digits, the date in it and the words before it decide; a bare number without any of them stays.
"""

from __future__ import annotations

import re

from pipeline.privacy import checks
from pipeline.privacy.identities import BY_FORM, context

CANDIDATE = re.compile(
    "[+＋(0-9](?<![0-9A-Za-z.].)(?<![A-Za-z0-9][-#.].)(?:(?<=[0-9])|(?<=\\()\\+?[0-9]|(?<=[+＋])[ \u00a0(]{0,2}[0-9])"
    "(?:[ \u00a0\u2009\u202f._\u2010-\u2013/()-]{0,3}[0-9]){5,79}+\\)?(?![0-9_]|[A-Za-wyzX]|x(?![0-9])|-[A-Za-z])"
)
_GROUP = re.compile("[0-9]+")
_NINES = str.maketrans("012345678", "999999999")
_SEPARATORS = str.maketrans(dict.fromkeys("\u00a0\u2009\u202f", " ") | dict.fromkeys("\u2010\u2011\u2012\u2013", "-"))
_UUID = re.compile("[0-9]{8}-[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{12}")
_ISO_DATE = re.compile("(?:19|20)[0-9]{2}([-./])(?:0[1-9]|1[0-2])\\1(?:0[1-9]|[12][0-9]|3[01])(?![0-9])")

_GLUE = ("-", ".", "_")

_PHONE_WORDS = context(
    r"(?:tele)?(?:phone|fon(?:o|e|nummer|nr)?|foon(?:nummer)?)|tel|fax|mob(?:ile?|iel|itel)?|cell"
    r"|call(?: me| us|ing)?|sms|wa\.me|whats ?app|text me|ringa?(?: me)?|reach me|dial|contact(?: number)?"
    r"|kontakt(?:o|i|u)?|(?:my|your) number(?:'?s| is)?|rufnummer|handy(?:nummer)?|anrufen|erreichbar|rufen"
    r"|portable|t[ée]l(?:[ée]phone)?|num[ée]ro|appel(?:le[rz]?)?|joindre|tfn?o?|m[óo]vil|celular"
    r"|ll[aá]m(?:ar|ame|eme)|cellulare|chiama(?:mi|temi)?|telem[óo]vel|liga(?:r|-me|me)|ligue(?:-me)?|bel(?:len)?"
    r"|kom[óo]rka|zadzwo[ńn]|numer(?: telefonu)?|tlf|puh(?:elin)?|soita(?:kaa)?|(?:za)?volejte|t[āa]lr(?:unis)?"
    r"|suna(?:ți|ti)?|h[íi]vj(?:on|ák)|ara(?:y[ıi]n)?|τηλ(?:[έε]φωνο)?|κινητ[όο]|καλ[έε]στε|тел(?:ефон)?"
    r"|(?:по)?звони(?:те)?|мой номер|電話|电话|手机|전화"
)
_THINGS = (
    "order|bestel|auftrag|command|pedido|ordine|ordre|objedn|zam[óo]w|tilau|rendel|comand|sipari|παραγγελ|заказ|поръчк"
    "|rechnung|invoice|fa[ck]tur|fattura|artikel|art[íi]c|item|produ[ck]|prodott|sku|ean|gtin|isbn|upc|track|sendung|parcel"
    "|paket|colis|ticket|case|vorgang|r[ée]f|book|buchung|reserv|version|model|seri|code|pri[cx]|preis|part|lot|batch"
    "|voucher|coupon|gutschein|quote|angebot|shipment|transaction|receipt"
)
_THING_BETWEEN = re.compile(rf"\b(?:{_THINGS})|[€$£]", re.IGNORECASE)
"""Between a word for a phone and a number they say that the number is another: call us about order 100234567."""
_THING_BEFORE = re.compile(
    rf"\b(?:(?:{_THINGS})[^\W\d_]{{0,12}}|art)(?:[ .-]{{0,2}}(?:no|nr|num|number|nummer|n[°º]|id|code))?[ .:#=-]{{0,3}}"
    r"(?:[A-Z0-9]{1,6}[ -]){0,4}$",
    re.IGNORECASE,
)
"""In front of a number: it is that of the thing."""


def _after_phone_word(before: str) -> bool:
    word = _PHONE_WORDS.search(before)
    return word is not None and not _THING_BETWEEN.search(word["gap"])


_CARD_GROUPS = re.compile(
    "9{12,19}|9{4}(?: {0,3}[ /._-]9{4}){2,3}(?:[ /._-]9{1,4})?|9{4}[ ._-]9{6}[ ._-]9{4,5}|9{6}[ -]9{10,13}"
    "|(?:9[ .-]){12,18}9"
)
_NANP = re.compile(
    r"(?:\+?1[ .-]?)?(?:\(([2-9][0-9]{2})\)[ .-]?|([2-9][0-9]{2})([ .-]))"
    r"([2-9][0-9]{2}|01[0-9])[ .-]?[0-9]{4}"
    r"|1[-. /]([2-9][0-9]{2})[-. /][0-9]{3}[-. /][0-9]{4}"
)
_AREA = re.compile(
    r"\([1-9][0-9]{1,3}\) ?[0-9]{2,4}(?:[ -][0-9]{2,4}){1,2}|\(8[ -]?[1-9][0-9]{0,2}\) ?[0-9]{3}(?:[ -][0-9]{2,4}){1,2}"
)
"""An area code in brackets, as in Poland and Lithuania."""
_SHORT_TRUNK = re.compile(
    r"0[1-9][0-9]{0,4}/ ?(?!(?:19|20)[0-9]{2}(?![0-9]))[0-9]{4,8}(?:[ -][0-9]{1,8}){0,3}"
    r"|06[ /-]?1[ /-][0-9]{3}[ -][0-9]{4}|0[1-9][0-9]{0,2}-[0-9]{2,3}(?: [0-9]{2}){2}"
)
"""Numbers with a trunk zero that are too short or too chopped for `_TRUNK`: Austria, Hungary, Sweden."""
_LOCAL = re.compile("[2-9][0-9]{2}[ .-][0-9]{4}")
_FICTION = re.compile("555[ .-]01[0-9]{2}")
_TRUNK = re.compile(r"\(?0[1-9][0-9]{0,5}\)?(?:[ ./-]{1,3}[0-9]{2,8}){1,5}")
_TRUNK_BARE = re.compile("0[1-9][0-9]{8,10}")
_IBERIAN = re.compile(r"[679][0-9]{2}([ .-])[0-9]{3}\1[0-9]{3}|[679][0-9]{2}([ .-])[0-9]{2}\2[0-9]{2}\2[0-9]{2}")
_POLISH = re.compile(r"[4-8][0-9]{2}([ -])[0-9]{3}\1[0-9]{3}")
_ITALIAN = re.compile(
    "3[0-9]{2}[ ./-][0-9]{6,7}|3[0-9]{2}[ .-][0-9]{3}[ .-][0-9]{3,4}|3[0-9]{2}[ .-][0-9]{2}[ .-][0-9]{2}[ .-][0-9]{3}"
)
_RUSSIAN = re.compile(r"8[ -]?\(?[3489][0-9]{2}\)?[ -]?[0-9]{3}[ -]?[0-9]{2}[ -]?[0-9]{2}")
_BRAZILIAN = re.compile(r"\([1-9][0-9]\) ?9?[0-9]{4}[- ][0-9]{4}")


def kind(span: str, before: str, *, identifiers: bool = True) -> str | None:
    """What a whole candidate is: phone, payment_card, national_id, or None.

    `before` is the text in front of it. Without `identifiers` the number labels a thing (an order, a SKU, `el_123`):
    then only cards, numbers that say `+` and those behind a word for them count.
    """
    span = span.translate(_SEPARATORS).strip()
    digits = "".join(_GROUP.findall(span))
    size = len(digits)
    if size < 7 or size > 24:
        return None
    if span[0] in "+＋" or span[:2] == "(+":
        spread = span[1] != " " or not span[2:].isdigit()
        return "phone" if 8 <= size <= 15 and digits[0] != "0" and spread else None
    shape = span.translate(_NINES)
    if size >= 12 and checks.card(digits) and _CARD_GROUPS.fullmatch(shape) and not _epoch(span, size):
        return "payment_card"
    for check, words, alone in BY_FORM.get(shape, ()):
        if check(digits) and ((alone and identifiers and not _epoch(span, size)) or words.search(before)):
            of_thing = size <= 10 and _THING_BEFORE.search(before) and not words.search(before)
            return None if of_thing else "national_id"
    if not identifiers and not _after_phone_word(before):
        return None
    return "phone" if _phone(span, shape, digits, before) and not _THING_BEFORE.search(before) else None


def _phone(span: str, shape: str, digits: str, before: str) -> bool:
    size = len(digits)
    if size > 15 or _ISO_DATE.match(span):
        return False
    if shape.isdigit():
        if _TRUNK_BARE.fullmatch(span) and size <= 11:
            return True
        if span[:2] == "00" and span[2] != "0" and 11 <= size <= 15:
            return True
        return _after_phone_word(before)
    if _NANP.fullmatch(span) or _FICTION.fullmatch(span):
        return True
    if span[:2] in ("00", "(0") and size >= 9 and span[2:3] != "0":
        return True
    if 9 <= size <= 12 and _TRUNK.fullmatch(span) and not _dotted_date(span):
        return True
    if any(form.fullmatch(span) for form in (_IBERIAN, _ITALIAN, _RUSSIAN, _BRAZILIAN, _AREA, _SHORT_TRUNK)):
        return True
    if _POLISH.fullmatch(span) or _LOCAL.fullmatch(span) or size >= 8:
        return _after_phone_word(before)
    return False


def _dotted_date(span: str) -> bool:
    day, _, rest = span.partition(span[2:3])
    return (
        len(day) == 2
        and span[2:3] in "./-"
        and len(rest) >= 7
        and rest[2:3] == span[2:3]
        and int(day) <= 31
        and rest[:2] <= "12"
        and rest[3:5] in ("19", "20")
    )


def _epoch(span: str, size: int) -> bool:
    """Whether a bare number reads as a Unix time in seconds, micro- or nanoseconds between 2017 and 2028.

    Milliseconds aren't asked for: their 13 digits with a date, a county and a check digit inside are rare enough.
    """
    return size in (10, 16, 19) and span.isdigit() and 1_500_000_000 <= int(span[:10]) <= 1_850_000_000


def _unwrapped(span: str) -> tuple[str, str, str]:
    """A candidate without the brackets around all of it, or without one that has no partner."""
    depth = 0
    for index, char in enumerate(span):
        if char in "()":
            depth += 1 if char == "(" else -1
            if depth == 0 and index == len(span) - 1 and span[0] == "(":
                return "(", span[1:-1], ")"
            if depth == 0 and span[0] == "(":
                break
    if depth < 0 and span[-1] == ")":
        return "", span[:-1], ")"
    if depth > 0 and span[0] == "(":
        return "(", span[1:], ""
    return "", span, ""


class Excess(Exception):  # noqa: N818  # caught next door, never seen outside
    """A text holds more candidates than are examined."""


class Finder:
    """Replaces phones, cards and national ids in one text and keeps what it found.

    At most `LIMIT` candidates are examined, so that a hostile text costs no more than a long one; then `Excess`.
    """

    LIMIT = 2000
    __slots__ = ("_identifiers", "found", "left")

    def __init__(self, *, identifiers: bool) -> None:
        self.found: list[str] = []
        self._identifiers = identifiers
        self.left = self.LIMIT

    def replace(self, text: str) -> str:
        """`text` with a marker in place of each find."""
        return CANDIDATE.sub(lambda match: self._candidate(match, text), text)

    def _candidate(self, match: re.Match[str], text: str) -> str:
        span = match[0]
        if len(span) == 36 and _UUID.fullmatch(span):
            return span
        before = text[max(0, match.start() - 40) : match.start()]
        if before[-1:] == ":" and before[-2:-1].isdigit():
            return span  # the seconds of a time
        opening, inner, closing = _unwrapped(span)
        before += opening
        return opening + (self._whole(inner, before) or self._parts(inner, before)) + closing

    def _whole(self, span: str, before: str) -> str | None:
        self.left -= 1
        if self.left < 0:
            raise Excess
        found = kind(span, before, identifiers=self._identifiers and not (before[-1:] == "_" and span.isdigit()))
        if found is None:
            return None
        self.found.append(found)
        return f"[REDACTED:{found}]"

    def _parts(self, span: str, before: str) -> str:
        """Numbers that follow each other with a blank read as one candidate: try consecutive groups of it."""
        groups = [(group.start(), group.end()) for group in _GROUP.finditer(span)]
        out: list[str] = []
        done = first = 0
        while first < len(groups) - 1 + (first > 0):
            start = groups[first][0]
            if start and span[start - 1] == "(":
                start -= 1
            for last in range(min(len(groups), first + 8) - 1, first - 1, -1):
                end = groups[last][1]
                whole = start == 0 and end == len(span)
                if end - start < 7 or whole or span[end : end + 1] in _GLUE or span[start - 1 : start] in _GLUE:
                    continue
                marker = self._whole(span[start:end], before + span[:start])
                if marker:
                    out.append(span[done:start] + marker)
                    done, first = end, last
                    break
            first += 1
        return "".join(out) + span[done:]
