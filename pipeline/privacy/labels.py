"""Numbers behind a word that says whose they are: record, plan, account, licence, vehicle and device numbers."""

from __future__ import annotations

import re

_STRONG = {
    "medical_record": "mrn|medical record|med rec|chart|patient|encounter|hospital|admission",
    "health_plan": "health plan|member|membership|policy|beneficiary|insurance|subscriber|medicare|medicaid|mbi|group",
    "account": "account|acct|a/c|konto|kontonummer|compte|cuenta|conto",
    "licence": "licence|license|certificate|npi|dea|dl",
    "vehicle": "plate|license plate|licence plate|vin",
    "device": "serial|s/n|imei|udi|device|implant|meid|iccid",
}
"""A number may follow these at once: `Chart 445566`."""

_WEAK = {
    "medical_record": "pt|rx|prescription|visit|case|specimen|accession|lab",
    "health_plan": "plan|claim",
    "account": "loan",
    "licence": "lic|cert|registration|reg",
    "device": "sn|pacemaker|pump|equipment",
}
"""These need a sign that a number follows: `Claim # 55667788`."""


def _words(table: dict[str, str]) -> str:
    words = sorted("|".join(table.values()).split("|"), key=len, reverse=True)
    return "|".join(word.replace(" ", "[ _-]") for word in words)


_KINDS = {word: kind for table in (_STRONG, _WEAK) for kind, words in table.items() for word in words.split("|")}
_SIGN = r"(?:\.?[ _/-]?(?:id|no|nr|number|num|code)(?![a-z])\.?\s?[:#=/_-]{0,2}\s?#?|\.?\s?[:#=]{1,2}\s?#?-?)"
_LABELLED = re.compile(
    rf"(?<![a-z])(?:({_words(_STRONG)})s?(?:{_SIGN}|\.?\s|(?<=mrn)|(?<=npi)|[/_-](?=[a-z]{{0,3}}-?[0-9]{{5}}))"
    rf"|({_words(_WEAK)})s?{_SIGN})(?=[a-z-]{{0,8}}[0-9])([a-z0-9][a-z0-9-]{{3,24}})(?![\w-])"
)
_YEAR = re.compile("(?:19|20)[0-9]{2}")
_SAYS_NUMBER = re.compile("[a-z:#=]")
_PLATE = re.compile(
    r"(?<![a-z])(?:plate|kennzeichen)(?: (?:no|nr|number))?\.?[ :#=]{1,3}"
    r"((?=[a-zäöü -]{0,6}[0-9])[a-zäöü0-9]{1,4}(?:[ -][a-z0-9]{1,4}){1,2})(?![\w-])"
)


def any_number(text: str) -> bool:
    """Whether a label has a number behind it."""
    return _LABELLED.search(text.lower()) is not None


def numbers(text: str, found: list[str]) -> str:
    """`text` without labelled numbers. The word is looked for in lower case of the same length."""
    lower = text.lower()
    if len(lower) != len(text):
        lower = text
    out: list[str] = []
    done = 0
    for match in _LABELLED.finditer(lower):
        word = match[1] or match[2]
        sign = lower[match.end(1 if match[1] else 2) : match.start(3)]
        if _YEAR.fullmatch(match[3]) and not _SAYS_NUMBER.search(sign.removeprefix("s")):
            continue  # Privacy Policy 2026
        kind = _KINDS[word] if word in _KINDS else _KINDS[word.replace("-", " ").replace("_", " ")]
        out.append(f"{text[done : match.start(3)]}[REDACTED:{kind}]")
        found.append(kind)
        done = match.end()
    if out:
        return "".join(out) + text[done:]
    plate = _PLATE.search(lower)
    if plate and text[plate.start(1) : plate.end(1)].isupper():
        found.append("vehicle")
        return f"{text[: plate.start(1)]}[REDACTED:vehicle]{text[plate.end(1) :]}"
    return text
