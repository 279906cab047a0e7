"""Numbers in text: which are a phone, a card or a national id, and which just count something.

A candidate is a run of digits with the separators that people write into numbers. Its shape (`999-99-9999`), its check
digits, the date in it and the words before it decide; a bare number without any of them stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pipeline.privacy import checks

CANDIDATE = re.compile(
    "[+＋(0-9](?<![0-9A-Za-z_].)(?<![A-Za-z0-9][-_#.].)(?:(?<=[0-9])|(?<=\\()\\+?[0-9]|(?<=[+＋])\\(?[0-9])"
    "(?:[ \u00a0\u2009\u202f.\u2010-\u2013/()-]{0,3}[0-9]){5,79}+\\)?(?![0-9A-Za-z_]|-[A-Za-z])"
)
_GROUP = re.compile("[0-9]+")
_NINES = str.maketrans("012345678", "999999999")
_SEPARATORS = str.maketrans(dict.fromkeys("\u00a0\u2009\u202f", " ") | dict.fromkeys("\u2010\u2011\u2012\u2013", "-"))
_UUID = re.compile("[0-9]{8}-[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{12}")
_ISO_DATE = re.compile("(?:19|20)[0-9]{2}([-./])(?:0[1-9]|1[0-2])\\1(?:0[1-9]|[12][0-9]|3[01])(?![0-9])")

_GLUE = ("-", ".")

Check = Callable[[str], bool]


def _context(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?:(?<![^\W\d_])(?:{words}))(?![a-z]{{3}})[^0-9]{{0,24}}$", re.IGNORECASE)


PHONE_WORDS = _context(
    r"phone|telephone|tel|mobile|mob|cell|call(?: me| us)?|calling|fax"
    r"|whats ?app|sms|text me|ring(?: me)?|reach me|dial|contact(?: number)?"
    r"|telefon(?:o|e|nummer|nr)?|rufnummer|handy(?:nummer)?|mobil|anrufen|erreichbar|rufen|portable|t[ée]l[ée]phone|num[ée]ro|appelez|joindre"
    r"|m[óo]vil|celular|ll[aá]m(?:ar|ame|eme)|cellulare|chiama(?:mi|temi)?|telem[óo]vel|ligar|telefoon(?:nummer)?|mobiel|bel(?:len)?|kom[óo]rka|zadzwo[ńn]"
    r"|numer(?: telefonu)?|ring|puhelin|ara(?:y[ıi]n)?|тел(?:ефон)?|звоните|позвоните|電話|电话|手机|전화"
)
SSN = _context(r"ssn|social(?: security)?(?: number| no)?|soc sec|itin|tax ?id|tin")
NHS = _context(r"nhs(?: number| no)?|health service")
BSN = _context(r"bsn|burgerservicenummer|sofi ?nummer|sofinummer")
STEUER = _context(r"steuer[- ]?(?:id|identifikationsnummer|nummer|nr)|idnr|tax ?id|identifikationsnummer|tin")
NIF = _context(r"nif|contribuinte|fiscal|tin|tax ?id|nipc")
TAJ = _context(r"taj(?:[- ]?sz[áa]m)?")
OIB = _context(r"oib|osobni identifikacijski broj")
AFM = _context(r"afm|α\.?φ\.?μ\.?|tin|tax ?id")
CPR = _context(r"cpr(?:[- ]?n(?:umme)?r)?|personnummer|personal id")
BIRTH = _context(r"rodn[ée] [čc][íi]slo|r\.? ?[čc]\.?")

_SHAPES: dict[str, tuple[tuple[Check, re.Pattern[str] | None], ...]] = {
    "999-99-9999": ((checks.us_ssn, None),),
    "999 99 9999": ((checks.us_ssn, SSN),),
    "9" * 9: (
        (checks.us_ssn, SSN),
        (checks.nl_bsn, BSN),
        (checks.pt_nif, NIF),
        (checks.hu_taj, TAJ),
        (checks.gr_afm, AFM),
    ),
    "9999.99.999": ((checks.nl_bsn, None),),
    "9999 99 999": ((checks.nl_bsn, BSN),),
    "999 999 999": ((checks.pt_nif, NIF), (checks.hu_taj, TAJ), (checks.nl_bsn, BSN)),
    "999-999-999": ((checks.hu_taj, TAJ), (checks.nl_bsn, BSN)),
    "999.999.999": ((checks.pt_nif, NIF), (checks.nl_bsn, BSN)),
    "999 999 9999": ((checks.uk_nhs, NHS),),
    "999-999-9999": ((checks.uk_nhs, NHS),),
    "9" * 10: (
        (checks.uk_nhs, NHS),
        (checks.se_personal, None),
        (checks.cz_sk_birth, None),
        (checks.bg_egn, None),
        (checks.at_insurance, None),
        (checks.dk_cpr_date, CPR),
        (checks.is_kennitala, None),
    ),
    "999999-9999": (
        (checks.se_personal, None),
        (checks.dk_cpr, None),
        (checks.dk_cpr_date, CPR),
        (checks.is_kennitala, None),
    ),
    "999999 9999": ((checks.se_personal, None), (checks.dk_cpr, None), (checks.dk_cpr_date, CPR)),
    "99999999-9999": ((checks.se_personal_long, None),),
    "9" * 12: ((checks.se_personal_long, None),),
    "999999/9999": ((checks.cz_sk_birth, None),),
    "9999 999999": ((checks.at_insurance, None),),
    "9999-999999": ((checks.at_insurance, None),),
    "9999/999999": ((checks.at_insurance, None),),
    "9999 99 99 99": ((checks.at_insurance, None),),
    "99 999 999 999": ((checks.de_tax, None),),
    "99 999 999 9 99": ((checks.de_tax, None),),
    "99.99.99-999.99": ((checks.be_national, None),),
    "99.99.99.999.99": ((checks.be_national, None),),
    "999999-999-99": ((checks.be_national, None),),
    "999999 99999": ((checks.no_birth, None),),
    "999999-99999": ((checks.lv_personal, None), (checks.no_birth, None)),
    "9" * 11: (
        (checks.pl_pesel, None),
        (checks.be_national, None),
        (checks.no_birth, None),
        (checks.ee_lt_personal, None),
        (checks.gr_amka, None),
        (checks.de_tax, STEUER),
        (checks.mod11_10, OIB),
    ),
    "9" * 13: ((checks.ro_cnp, None), (checks.si_emso, None), (checks.ch_ahv, None), (checks.lu_matricule, None)),
    "999.9999.9999.99": ((checks.ch_ahv, None),),
    "999 9999 9999 99": ((checks.ch_ahv, None),),
    "9999 99 99 999 99": ((checks.lu_matricule, None),),
    "9" * 15: ((checks.fr_nir, None),),
    "9 99 99 99 999 999 99": ((checks.fr_nir, None),),
    "9 99 99 99 999 999 / 99": ((checks.fr_nir, None),),
    "9-99-99-99-999-999-99": ((checks.fr_nir, None),),
}

_CARD_GROUPS = re.compile(
    "9{12,19}|9{4}(?:[ -]9{4}){2,3}(?:[ -]9{1,4})?|9{4}[ -]9{6}[ -]9{4,5}|9{6}[ -]9{10,13}|9{4}(?:\\.9{4}){3}"
)
_NANP = re.compile(
    r"(?:\+?1[ .-]?)?(?:\(([2-9][0-9]{2})\)[ .-]?|([2-9][0-9]{2})([ .-]))"
    r"([2-9][0-9]{2}|01[0-9])[ .-]?[0-9]{4}"
    r"|1[-. /]([2-9][0-9]{2})[-. /][0-9]{3}[-. /][0-9]{4}"
)
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
_INTERNATIONAL = re.compile("[+(]{0,2}[1-9].*")


def kind(span: str, before: str, *, identifiers: bool = True) -> str | None:
    """What a whole candidate is: phone, payment_card, national_id, or None.

    `before` is the text in front of it. Without `identifiers` the number labels a thing (an order, a SKU): then only
    cards and numbers that say `+` count.
    """
    span = span.translate(_SEPARATORS).strip()
    digits = "".join(_GROUP.findall(span))
    size = len(digits)
    if size < 7 or size > 24:
        return None
    if span[0] in "+＋" or span[:2] == "(+":
        return "phone" if size <= 15 and digits[0] != "0" and (size >= 8) else None
    shape = span.translate(_NINES)
    if size >= 12 and checks.card(digits) and _CARD_GROUPS.fullmatch(shape) and not _epoch(span, size):
        return "payment_card"
    if not identifiers:
        return None
    for check, words in _SHAPES.get(shape, ()):
        if check(digits) and (words is not None or not _epoch(span, size)) and (words is None or words.search(before)):
            return "national_id"
    return "phone" if _phone(span, shape, digits, before) else None


def _phone(span: str, shape: str, digits: str, before: str) -> bool:
    size = len(digits)
    if size > 15 or _ISO_DATE.match(span):
        return False
    if shape.isdigit():
        if _TRUNK_BARE.fullmatch(span) and size <= 11:
            return True
        if span[:2] == "00" and span[2] != "0" and 11 <= size <= 15:
            return True
        return PHONE_WORDS.search(before) is not None
    if _NANP.fullmatch(span) or _FICTION.fullmatch(span):
        return True
    if span[:2] in ("00", "(0") and size >= 9 and span[2:3] != "0":
        return True
    if 9 <= size <= 12 and _TRUNK.fullmatch(span) and not _dotted_date(span):
        return True
    if _IBERIAN.fullmatch(span) or _ITALIAN.fullmatch(span) or _RUSSIAN.fullmatch(span):
        return True
    if _POLISH.fullmatch(span) or _LOCAL.fullmatch(span) or size >= 8:
        return PHONE_WORDS.search(before) is not None
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
    """Whether a bare number reads as a Unix time in seconds, micro- or nanoseconds between 2001 and 2039.

    Milliseconds aren't asked for: their 13 digits with a date, a county and a check digit inside are rare enough.
    """
    return size in (10, 16, 19) and span.isdigit() and 1_000_000_000 <= int(span[:10]) <= 2_200_000_000


class Excess(Exception):  # noqa: N818  # caught next door, never seen outside
    """A text holds more candidates than are examined."""


class Finder:
    """Replaces phones, cards and national ids in one text and keeps what it found.

    At most `LIMIT` candidates are examined, so that a hostile text costs no more than a long one; then `Excess`.
    """

    LIMIT = 4000
    __slots__ = ("_identifiers", "_left", "found")

    def __init__(self, *, identifiers: bool) -> None:
        self.found: list[str] = []
        self._identifiers = identifiers
        self._left = self.LIMIT

    def replace(self, text: str) -> str:
        """`text` with a marker in place of each find."""
        return CANDIDATE.sub(lambda match: self._candidate(match, text), text)

    def _candidate(self, match: re.Match[str], text: str) -> str:
        span = match[0]
        if len(span) == 36 and _UUID.fullmatch(span):
            return span
        before = text[max(0, match.start() - 40) : match.start()]
        return self._whole(span, before) or self._parts(span, before)

    def _whole(self, span: str, before: str) -> str | None:
        self._left -= 1
        if self._left < 0:
            raise Excess
        found = kind(span, before, identifiers=self._identifiers)
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
