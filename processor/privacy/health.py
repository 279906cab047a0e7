"""What the hipaa level finds in values beyond gdpr: 45 CFR 164.514(b)(2)(i) as far as a form tells it."""

from __future__ import annotations

import re

from processor.privacy import checks

SMALL_ZIP3 = frozenset(
    "036 059 102 202 203 204 205 369 556 692 753 772 821 823 878 879 884 893".split()
    + [str(code).zfill(3) for code in (*range(1, 5), *range(90, 100), 340, *range(962, 967))]
)
"""First three digits of ZIP codes with 20,000 inhabitants or fewer together in the census of 2020, and military ones,
which it doesn't count at all."""

_ZIP = re.compile(r"([0-9]{5})(?:[- ]?[0-9]{4})?")
_STATES = "A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|P[AR]|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]"
_ZIP_IN_TEXT = re.compile(
    rf"(?<![A-Za-z])((?:{_STATES})[ ,]{{1,2}}|zip(?: ?code)?[ :#]{{1,3}})([0-9]{{5}})(?:-[0-9]{{4}})?(?![\w-])",
    re.IGNORECASE,
)
_ZIP_PLUS4 = re.compile(r"(?<![\w-])([0-9]{5})-[0-9]{4}(?![\w-])")

_MONTH = (
    "jan(?:uary|uar|v(?:ier)?)?|feb(?:ruary|ruar)?|f[ée]v(?:rier)?|mar(?:ch|s|zo)?|m[äa]rz|apr(?:il|ile)?|avr(?:il)?|ma[iy]|mayo|maggio"
    "|june?|juni|juin|junio|giugno|july?|juli|juillet|julio|luglio|aug(?:ust)?|ao[ûu]t|agosto|sep(?:t(?:ember|embre|iembre)?)?"
    "|o[ck]t(?:ober|obre|ubre)?|ottobre|nov(?:ember|embre|iembre)?|de[cz](?:ember)?|d[ée]c(?:embre)?|dic(?:iembre|embre)?|enero|febrero|abril"
)
_YEAR = "(?:18|19|20)[0-9]{2}"
_DATE = re.compile(
    rf"(?<![\w.-])(?:{_YEAR}([-/.])(?:1[0-2]|0?[1-9])\1(?:3[01]|[12][0-9]|0?[1-9])(?:[T ][0-2]?[0-9]:[0-5][0-9][0-9:.,]{{0,12}}(?:Z|[+-][0-9:]{{2,5}})?)?"
    rf"|(?:3[01]|[12][0-9]|0?[1-9])([-/.])(?:3[01]|[12][0-9]|0?[1-9])\2(?:{_YEAR}|[0-9]{{2}})"
    rf"|{_YEAR}-(?:1[0-2]|0[1-9])"
    rf"|(?:1[0-2]|0[1-9])/{_YEAR}"
    rf"|{_YEAR}(?:1[0-2]|0[1-9])(?:3[01]|[12][0-9]|0[1-9])"
    rf"|(?:3[01]|[12][0-9]|0?[1-9])(?:st|nd|rd|th|\.|er|º)?[ -](?:of |de )?(?:{_MONTH})\.?(?:[ ,-]+(?:de )?{_YEAR})?"
    rf"|(?:{_MONTH})\.? (?:3[01]|[12][0-9]|0?[1-9])(?:st|nd|rd|th)?(?:,? {_YEAR})?"
    rf"|(?:{_MONTH})\.? {_YEAR})(?![\w-]|[.][0-9])",
    re.IGNORECASE,
)
_AGE = re.compile(
    r"(?<![\w.])(9[0-9]|1[0-4][0-9])[ -]?(?:years?[ -]old|year[ -]old|y/?o|yrs?(?: old)?|years of age|jahre(?: alt)?|ans|años|anni)(?!\w)"
    r"|\b(?:age[ds]?|aged|alter)(?: is| of|:)? ?(9[0-9]|1[0-4][0-9])(?![\w.])",
    re.IGNORECASE,
)
_LABELLED = re.compile(
    r"(?<![A-Za-z])(?:"
    r"(?P<medical_record>mrn|medical record|med rec|chart|patient(?: id)?|encounter)"
    r"|(?P<health_plan>health plan|member(?:ship)? id|member|policy|beneficiary|insurance|subscriber|medicare|medicaid|mbi|group)"
    r"|(?P<account>account|acct|a/c)"
    r"|(?P<licence>licen[cs]e|certificate|npi|dea)"
    r"|(?P<vehicle>plate|license plate|vin)"
    r"|(?P<device>serial|s/n|imei|udi|device|implant|meid|iccid)"
    r")(?: (?:no|nr|number|num|id|code))?\.?\s?[:#=]{0,2}\s?#?(?=[A-Za-z-]{0,8}[0-9])([A-Za-z0-9][A-Za-z0-9-]{3,24})(?![\w-])",
    re.IGNORECASE,
)
_MBI = re.compile(
    r"(?<![\w-])[1-9][AC-HJ-KM-NP-RT-Y][0-9AC-HJ-KM-NP-RT-Y][0-9]-?[AC-HJ-KM-NP-RT-Y][0-9AC-HJ-KM-NP-RT-Y][0-9]-?[AC-HJ-KM-NP-RT-Y]{2}[0-9]{2}(?![\w-])"
)
_VIN = re.compile(r"(?<![\w-])(?=[A-Z0-9]{0,16}[A-Z])[A-HJ-NPR-Z0-9]{17}(?![\w-])")
_IMEI = re.compile(r"(?<![\w-])[0-9]{2}[- ]?[0-9]{6}[- ]?[0-9]{6}[- ]?[0-9](?![\w-])")
_STREET_KINDS = (
    "street|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|dr|court|ct|circle|cir|place|pl|terrace|ter|way|parkway|pkwy|highway|hwy"
    "|square|sq|trail|trl|close|crescent|gardens|mews|row|loop|alley|plaza"
)
_STREET = re.compile(
    rf"(?<![\w.-])[0-9]{{1,6}}[A-Za-z]?,? (?:[NSEW]\.? |north |south |east |west )?(?:[A-Z0-9][\w'.-]{{0,24}} ){{1,4}}(?:{_STREET_KINDS})\b\.?(?:,? (?:apt|apartment|unit|suite|ste|#)\.? ?\w{{1,6}})?"
    r"|(?<!\w)p\.? ?o\.? ?box [0-9]{1,8}"
    r"|(?<!\w)[A-ZÄÖÜ][\w'-]{0,30}(?:stra(?:ß|ss)e|str\.|gasse|allee|straat|laan|gatan|gade) [0-9]{1,4} ?[a-z]?(?!\w)"
    r"|(?<!\w)(?:rue|avenue|boulevard|calle|via|piazza|rua) (?:[\w'.-]{1,24} ){1,4}[0-9]{1,4}(?!\w)"
    r"|(?<![\w.-])[0-9]{1,4},? (?:bis |ter )?(?:rue|avenue|boulevard|place|chemin) (?:[\w'.-]{1,24} ?){1,5}",
    re.IGNORECASE,
)
_FAST_STREET = re.compile(
    rf"(?:{_STREET_KINDS}|box|stra|str\.|gasse|allee|laan|gat|gade|rue|calle|via|piazza|rua|chemin)", re.IGNORECASE
)


def zip_code(value: str) -> str | None:
    """The three digits that may stay of a ZIP code, 000 for small areas; None for anything else."""
    match = _ZIP.fullmatch(value.strip())
    if match is None:
        return value if re.fullmatch("[0-9]{3}", value) else None
    return zip3(match[1])


def zip3(code: str) -> str:
    """Three digits of five, 000 for small areas."""
    return "000" if code[:3] in SMALL_ZIP3 else code[:3]


def date_or_age(value: str) -> str | None:
    """What stands for a value under the name of a date or an age: Unix times are dates, ages over 89 are `90+`."""
    if value.isascii() and value.isdigit():
        number = int(value[:20])
        if len(value) in (9, 10, 12, 13, 16, 19):
            return "[REDACTED:date]"
        if 89 < number < 150:
            return "90+"
    return None


def scan(text: str, found: list[str]) -> str:
    """`text` without labelled numbers, dates, ages over 89, street addresses, VINs, IMEIs; ZIP codes to three digits."""

    def mark(kind: str) -> str:
        found.append(kind)
        return f"[REDACTED:{kind}]"

    def labelled(match: re.Match[str]) -> str:
        start = match.start(7) - match.start()
        kind = next(name for name, value in match.groupdict().items() if value)
        return match[0][:start] + mark(kind)

    def vin(match: re.Match[str]) -> str:
        return mark("vehicle") if checks.vin(match[0]) else match[0]

    def imei(match: re.Match[str]) -> str:
        return mark("device") if checks.luhn(re.sub("[- ]", "", match[0])) else match[0]

    def zipped(match: re.Match[str]) -> str:
        found.append("postal_code")
        return match[1] + zip3(match[2])

    text = _LABELLED.sub(labelled, text)
    text = _VIN.sub(vin, text)
    text = _MBI.sub(lambda _: mark("health_plan"), text)
    text = _IMEI.sub(imei, text)
    if _FAST_STREET.search(text):
        text = _STREET.sub(lambda _: mark("address"), text)
    text = _ZIP_IN_TEXT.sub(zipped, text)
    text = _DATE.sub(lambda _: mark("date"), text)
    return _AGE.sub(lambda _: mark("age"), text)
