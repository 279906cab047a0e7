"""What the hipaa level finds in values beyond gdpr: 45 CFR 164.514(b)(2)(i) as far as a form tells it."""

from __future__ import annotations

import re

from pipeline.privacy import checks, labels

SMALL_ZIP3 = frozenset(
    (
        "036",
        "059",
        "102",
        "202",
        "203",
        "204",
        "205",
        "369",
        "556",
        "692",
        "753",
        "772",
        "821",
        "823",
        "878",
        "879",
        "884",
        "893",
        *tuple(str(code).zfill(3) for code in (*range(1, 5), *range(90, 100), 340, *range(962, 967))),
    )
)
"""First three digits of ZIP codes with 20,000 inhabitants or fewer together in the census of 2020, and military ones,
which it doesn't count at all."""

_ZIP = re.compile(r"([0-9]{5})(?:[- ]?[0-9]{4})?")
_STATES = (
    "A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|P[AR]|RI|S[CD]|T[NX]|UT|V[AT]"
    "|W[AIVY]"
)
_ZIP_IN_TEXT = re.compile(r"[0-9](?<![\w-].)[0-9]{4}(?:-[0-9]{4})?(?![\w-])")
_ZIP_WORDS = re.compile(
    rf"(?:(?<![A-Za-z])(?:{_STATES})[ ,]{{1,2}}|(?:zip|postal|post)(?: ?code)?(?: is)?[ :#]{{1,3}})$", re.IGNORECASE
)
_MONTHS = r"""
jan(?:uary|uar|v(?:ier)?|uari|eiro)? feb(?:ruary|ruar|bbraio|brero|ruari)? febbraio f[ée]v(?:rier)? fevereiro
mar(?:ch|s|zo|t|ts|ca|[çc]o)? m[äa]rz maart marzec apr(?:il|ile|ila)? avr(?:il)? abril ma[iyj] maja mei mayo maggio
maio june? juni juin junio giugno junho czerwca july? juli juillet julio luglio julho lipca aug(?:ust|ustus|usti)?
ao[ûu]t agosto sierpnia sep(?:t(?:ember|embre|iembre)?)? setembro settembre wrze[śs]nia o[ck]t(?:ober|obre|ubre|obra)?
ottobre outubro pa[źz]dziernika nov(?:ember|embre|embro)? listopada de[cz](?:ember|embro)? d[ée]c(?:embre)?
dic(?:iembre|embre)? grudnia enero gennaio febrero stycznia lutego kwietnia
"""
_MONTH = "|".join(_MONTHS.split())
_YEAR = "(?:18|19|20)[0-9]{2}"
_DATE = re.compile(
    rf"[0-9](?<![\w.-].)(?:(?<=[12])[089][0-9]{{2}}([-/.])(?:1[0-2]|0?[1-9])\1(?:3[01]|[12][0-9]|0?[1-9])"
    rf"(?:[T ][0-2]?[0-9]:[0-5][0-9][0-9:.,]{{0,12}}(?:Z|[+-][0-9:]{{2,5}})?)?"
    rf"|(?:(?<=[0-3])[0-9])?(?:([-/.])(?:3[01]|[12][0-9]|0?[1-9])\2{_YEAR}"
    rf"|([-/])(?:3[01]|[12][0-9]|0?[1-9])\3[0-9]{{2}}|\.(?:1[0-2]|0?[1-9])\.[0-9]{{2}})"
    rf"|(?<=[12])[089][0-9]{{2}}-(?:1[0-2]|0[1-9])"
    rf"|(?<=[12])[089][0-9]{{2}}(?:年 ?[01]?[0-9]月(?: ?[0-3]?[0-9]日)?|년 ?[01]?[0-9]월(?: ?[0-3]?[0-9]일)?)"
    rf"|(?:(?<=0)[1-9]|(?<=1)[0-2])/{_YEAR}"
    rf"|(?<=[12])[089][0-9]{{2}}(?:1[0-2]|0[1-9])(?:3[01]|[12][0-9]|0[1-9]))(?![\w-]|[.][0-9])"
)
_DATE_IN_WORDS = re.compile(
    rf"(?<![\w.-])(?:(?:3[01]|[12][0-9]|0?[1-9])(?:st|nd|rd|th|\.|er|º)?[ -](?:of |de )?"
    rf"(?:{_MONTH})\.?(?:[ ,-]+(?:de )?{_YEAR})?"
    rf"|(?:{_MONTH})\.?[ -](?:3[01]|[12][0-9]|0?[1-9])(?:st|nd|rd|th)?(?:(?:,? |-){_YEAR})?"
    rf"|(?:3[01]|[12][0-9]|0[1-9])(?:{_MONTH}){_YEAR}|(?:{_MONTH})\.? {_YEAR})(?![\w-]|[.][0-9])",
    re.IGNORECASE,
)
_AGE = re.compile(
    r"(?<![\w.])(?:9[0-9]|1[0-4][0-9])[ -]?"
    r"(?:years?[ -]old|y/?o|y\.o\.|yrs?(?: old)?|years? of age"
    r"|jahre(?: alt)?|ans|años|anni|anos|jaar(?: oud)?|lat|år(?: gammal)?)(?!\w)"
)
_AGED = re.compile(
    r"(?<![a-z])(?:age[ds]?|alter|turn(?:ing|ed|s)|i am|i'm|s?he is)(?: is| of|:|=)? ?"
    r"((?:9[0-9]|1[0-4][0-9])(?![\w%-]|\.[0-9]))"
)
_MBI_LETTER = "[AC-HJ-KM-NP-RT-Y]"
_MBI = re.compile(
    rf"[1-9](?<!\w.){_MBI_LETTER}[0-9AC-HJ-KM-NP-RT-Y][0-9]-?{_MBI_LETTER}[0-9AC-HJ-KM-NP-RT-Y][0-9]-?{_MBI_LETTER}{{2}}[0-9]{{2}}(?![\w-])"
)
_VIN = re.compile(r"[A-HJ-NPR-Z0-9](?<!\w.)[A-HJ-NPR-Z0-9]{16}(?![\w-])")
_IMEI = re.compile(r"[0-9](?<![\w-].)[0-9][- ]?[0-9]{6}[- ]?[0-9]{6}[- ]?[0-9](?![\w-])")
_STREET_KINDS = (
    "street|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|dr|court|ct|circle|cir|place|pl|terrace|ter|way|parkway|pkwy|highway|hwy"
    "|square|sq|trail|trl|close|crescent|gardens|mews|row|loop|alley|plaza"
)
_STREET_ENDS = "stra(?:ß|ss)e|str\\.|gasse|allee|weg|straat|laan|gracht|plein|gatan|vägen|gade|vej|gata|veien"
_STREET = re.compile(
    rf"(?<![\w.-])[0-9]{{1,6}}[A-Za-z]?,? (?:[NSEW]\.? |north |south |east |west )?(?:[A-Z0-9][\w'.-]{{0,24}} ){{1,4}}"
    rf"(?:{_STREET_KINDS})\b\.?(?:,? (?:apt|apartment|unit|suite|ste|#)\.? ?\w{{1,6}})?"
    r"|(?<!\w)p\.? ?o\.? ?box [0-9]{1,8}"
    rf"|(?<!\w)[A-ZÄÖÜ][\w'-]{{0,30}}(?:{_STREET_ENDS}) [0-9]{{1,4}} ?[a-z]?(?!\w)"
    r"|(?<!\w)(?:rue|avenue|av\.|boulevard|calle|plaza|viale|piazza|rua|avenida|praça|ul\.|ulica"
    r"|(?-i:Via|Am|An der|Auf dem)) (?:[\w'.-]{1,24} ){1,4}[0-9]{1,4}(?!\w)"
    r"|(?<![\w.-])[0-9]{1,4},? (?:bis |ter )?(?:rue|avenue|av\.|boulevard|bd|place|chemin|impasse|quai)"
    r" (?:[\w'.-]{1,24} ?){1,5}",
    re.IGNORECASE,
)
_YEARS = re.compile(r"\s*-?[0-9]{1,4}\s*")
_DIGIT = re.compile("[0-9]")
_LABEL_END = re.compile("[ :#=]|(?:mrn|MRN|npi|NPI)[0-9]|[A-Za-z.][/_-][A-Za-z]{0,3}-?[0-9][A-Za-z0-9]{3}")
_SUSPECT = re.compile(
    "[0-9:](?:(?<=:)[A-Za-z-]{0,8}[0-9]|(?<=[0-9])(?:[0-9]{3}(?:[-/.年년][0-9]|[0-9]{4}|[0-9]-[0-9]{4}"
    "|(?<=[A-HJ-NPR-Z0-9]{17}))|[0-9]?(?:[-/.][0-9]{1,2}[-/.][0-9]{2}|[/-][12][089][0-9]{2}|[A-Za-z]{3}[12][089][0-9]"
    "|(?:st|nd|rd|th|er)?[-.][A-Za-z]{3}|[yYjJ])|[0-9]-[0-9]{6}-"
    f"|{_MBI_LETTER}[0-9AC-HJ-KM-NP-RT-Y][0-9]-?{_MBI_LETTER}"
    "|(?<=mrn[0-9])|(?<=MRN[0-9])|(?<=npi[0-9])|(?<=NPI[0-9])))"
)
"""What a text without blanks has if `scan` changes it, but for a number behind a label (`_NUMBERED`)."""
_NUMBERED = re.compile("[/_-](?=[A-Za-z]{0,3}-?[0-9][A-Za-z0-9]{3})(?<=[A-Za-z.][/_-])")
_DAY_BEFORE_WORD = re.compile("[ -](?=[A-Za-z0-9])|[.]\\s?[A-Z]|[0-9][A-Za-z]{3}[12]")
_AGE_DIGITS = re.compile("[19][0-9]{1,2}(?![0-9])")


def zip_code(value: str) -> str | None:
    """The three digits that may stay of a ZIP code, 000 for small areas; None for anything else."""
    match = _ZIP.fullmatch(value.strip())
    if match is None:
        return value if re.fullmatch("[0-9]{3}", value) else None
    return zip3(match[1])


def zip3(code: str) -> str:
    """Three digits of five, 000 for small areas."""
    return "000" if code[:3] in SMALL_ZIP3 else code[:3]


def date(value: str) -> str | None:
    """What stands for a value under the name of a date, None for one that says no more than a year."""
    return "[REDACTED:date]" if _DIGIT.search(value) and not _YEARS.fullmatch(value) else None


def age(value: str) -> str | None:
    """What stands for a value under the name of an age: those over 89 are `90+`, a Unix time is a date."""
    if value.isascii() and value.isdigit():
        if len(value) in (9, 10, 12, 13, 16, 19):
            return "[REDACTED:date]"
        if 89 < int(value[:20]) < 150:
            return "90+"
    return None


def suspected(text: str) -> bool:
    """Whether the hipaa level may change a text that gdpr leaves alone."""
    return (
        " " in text
        or "?" in text
        or "#" in text
        or text[:5] == "data:"
        or _SUSPECT.search(text) is not None
        or (_NUMBERED.search(text) is not None and labels.any_number(text))
    )


def scan(text: str, found: list[str]) -> str:
    """`text` without labelled numbers, dates, ages over 89, street addresses, VINs, IMEIs; ZIPs to three digits."""
    if not _DIGIT.search(text) or not suspected(text):
        return text

    def mark(kind: str) -> str:
        found.append(kind)
        return f"[REDACTED:{kind}]"

    if _LABEL_END.search(text):
        text = labels.numbers(text, found)
    text = _VIN.sub(lambda match: mark("vehicle") if _is_vin(match[0]) else match[0], text)
    text = _MBI.sub(lambda _: mark("health_plan"), text)
    text = _IMEI.sub(lambda match: mark("device") if checks.luhn(_digits(match[0])) else match[0], text)
    text = _DATE.sub(lambda _: mark("date"), text)
    if " " in text:
        text = _STREET.sub(lambda _: mark("address"), text)
    text = _ZIP_IN_TEXT.sub(lambda match: _zipped(match, text, found), text)
    if _DAY_BEFORE_WORD.search(text):
        text = _DATE_IN_WORDS.sub(lambda _: mark("date"), text)
    return _ages(text, found) if _AGE_DIGITS.search(text) else text


def _ages(text: str, found: list[str]) -> str:
    for pattern, group in ((_AGE, 0), (_AGED, 1)):
        lower = text.lower()
        match = pattern.search(lower) if len(lower) == len(text) else None
        while match:
            text = f"{text[: match.start(group)]}[REDACTED:age]{text[match.end(group) :]}"
            found.append("age")
            lower = text.lower()
            match = pattern.search(lower, match.start(group))
    return text


def _zipped(match: re.Match[str], text: str, found: list[str]) -> str:
    """Five digits behind a state or the word, or with the four that only a ZIP code has."""
    if len(match[0]) == 5 and not _ZIP_WORDS.search(text[max(0, match.start() - 16) : match.start()]):
        return match[0]
    found.append("postal_code")
    return zip3(match[0])


def _is_vin(word: str) -> bool:
    """By check digit, or by form: a maker outside of North America, four digits at the end."""
    return checks.vin(word) or (word[0] in "JKLMNPRSTUVWXYZ" and word[1:3].isalpha() and word[-4:].isdigit())


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdigit())
