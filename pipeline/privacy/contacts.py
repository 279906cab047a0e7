"""Email addresses, accounts and national ids with letters in text, found by their form."""

from __future__ import annotations

import re

from pipeline.privacy import checks, words
from pipeline.privacy.lettered import LETTERED, Lettered

_AT = re.compile(
    r"(?<=[\w!#$'*+^`|~.%\"-])[@＠](?:(?:[\w-]{1,63}+\.){1,8}(?:[^\W\d_]{2,24}|xn--[a-z0-9-]{2,59})(?![\w-])|\[[0-9A-Fa-f:.]{3,40}\])"
)
_LOCAL = frozenset("!#$'*+^`|~.%-_")
_FILES = words.table("png jpg jpeg gif svg webp avif ico js mjs css map woff woff2 ttf")
_IBAN = re.compile("[0-9]{2}(?<=[A-Za-z]{2}[0-9]{2})(?=[ \u00a0.-]?[A-Za-z0-9]{3})")
_IBAN_BODY = re.compile("[A-Za-z0-9](?:[ \u00a0.-]?[A-Za-z0-9]){14,33}")
_LETTERED = re.compile(
    r"(?<![A-Za-z0-9_])(?<![A-Za-z0-9]-)(?:"
    + "|".join(f"(?P<{name}>{identity.pattern})" for name, identity in LETTERED.items())
    + r")(?![A-Za-z0-9_]|-[A-Za-z0-9])",
    re.IGNORECASE,
)
_EACH = [(identity, re.compile(identity.pattern, re.IGNORECASE)) for identity in LETTERED.values()]
_AT_WORD = re.compile(
    r"[ ]{0,2}[\[({<][ ]?(?:at|ät|@|arroba|chiocciola|arobase)[ ]?[\])}>][ ]{0,2}|[\[(]a[\])]|[ ]at[ ]"
    r"|[ ]{1,2}@[ ]{0,2}|(?<=\S)@[ ]{1,2}",
    re.IGNORECASE,
)
_DOT_WORD = (
    r"(?:[ ]{0,2}[\[({<][ ]?(?:dot|punkt|point|punto|\.)[ ]?[\])}>][ ]{0,2}|[ ](?:dot|punkt|point|punto)[ ]"
    r"|[ ]\.[ ]?(?=(?:com|net|org|info|eu|[a-z]{2})\b))"
)
_DOT_WORDS = re.compile(" (?:dot|punkt) ", re.IGNORECASE)
_SPELLED_DOMAIN = re.compile(
    rf"[\w-]{{1,63}}+(?:(?:(?P<word>{_DOT_WORD})|\.)[\w-]{{1,63}}+){{0,4}}(?:(?P<last>{_DOT_WORD})|\.)[^\W\d_]{{2,24}}(?![\w-])",
    re.IGNORECASE,
)
_MAIL_WORDS = re.compile(
    r"(?:e-?mail|contact|kontakt|contatto|contacto|courriel|correo|write to|reach)\W[^@]{0,16}$", re.IGNORECASE
)
_MAILERS = re.compile(
    r"(?:g(?:oogle)?mail|outlook|hotmail|live|yahoo|icloud|aol|gmx|web|proton(?:mail)?|mail|t-online|orange|free|libero|wp|yandex)"
    r"\.[a-z.]{2,6}",
    re.IGNORECASE,
)


def emails(text: str, found: list[str]) -> str:
    """`text` without email addresses. The local part is what stands before the @, 64 characters at most."""
    out: list[str] = []
    done = 0
    for match in _AT.finditer(text):
        start = match.start()
        if match[0].rpartition(".")[2].lower() in _FILES:
            continue
        lowest = max(done, start - 64)
        if text[start - 1] == '"':
            opening = text.rfind('"', lowest, start - 1)
            start = opening if opening >= 0 else start
        else:
            while start > lowest and (text[start - 1].isalnum() or text[start - 1] in _LOCAL):
                start -= 1
        if start == match.start():
            continue
        out.append(text[done:start])
        out.append("[REDACTED:email]")
        found.append("email")
        done = match.end()
    return "".join(out) + text[done:] if out else text


def spells_dots(text: str) -> bool:
    """Whether a dot is spelled out between blanks."""
    return _DOT_WORDS.search(text) is not None


def spelled_emails(text: str, found: list[str]) -> str:
    """`text` without addresses whose @ or dots are spelled out: jane (at) example (dot) com, jane @ example.com.

    ` at ` counts only where a dot is spelled out too, and a @ between blanks only behind a name that looks like that
    of a mailbox or before the domain of a mail provider: "meet us at example.com" is no address.
    """
    out: list[str] = []
    done = 0
    for match in _AT_WORD.finditer(text):
        start = match.start()
        domain = _SPELLED_DOMAIN.match(text, match.end())
        if domain is None or start < done:
            continue
        lowest = max(done, start - 64)
        while start > lowest and (text[start - 1].isalnum() or text[start - 1] in _LOCAL):
            start -= 1
        local = text[start : match.start()]
        bracketed = match[0].strip()[:1] in ("[", "(", "{", "<")
        worded = domain["word"] or domain["last"]
        sure = worded if match[0].strip().lower() == "at" else bracketed or worded or _mailbox(local, domain[0])
        sure = sure or ("@" in match[0] and _MAIL_WORDS.search(text, max(0, start - 40), start) is not None)
        if not local or not sure or domain[0].rpartition(".")[2].lower() in _FILES:
            continue
        out.append(f"{text[done:start]}[REDACTED:email]")
        found.append("email")
        done = domain.end()
    return "".join(out) + text[done:] if out else text


def _mailbox(local: str, domain: str) -> bool:
    return any(char in "._+-" or char.isdigit() for char in local) or _MAILERS.fullmatch(domain) is not None


def ibans(text: str, found: list[str]) -> str:
    """`text` without account numbers whose country, length and check digits agree."""
    out: list[str] = []
    done = 0
    for match in _IBAN.finditer(text):
        start = match.start() - 2
        size = checks.IBAN_LENGTHS.get(text[start : start + 2].upper())
        glued = start > 0 and text[start - 1].isalnum() and text[max(0, start - 4) : start].upper() != "IBAN"
        if size is None or start < done or glued:
            continue
        body = _IBAN_BODY.match(text, start)
        if body is None:
            continue
        compact, end = "", start
        for char in body[0]:
            if len(compact) == size:
                break
            end += 1
            if char not in " \u00a0.-":
                compact += char
        if len(compact) == size and not text[end : end + 1].isalnum() and checks.iban(compact.upper()):
            out.append(text[done:start])
            out.append("[REDACTED:iban]")
            found.append("iban")
            done = end
    return "".join(out) + text[done:] if out else text


def lettered_ids(text: str, found: list[str]) -> str:
    """`text` without national ids that mix letters and digits."""

    out: list[str] = []
    done = 0
    match = _LETTERED.search(text)
    while match:
        identity = LETTERED[match.lastgroup or ""]
        compact = "".join(char for char in match[0].upper() if char not in identity.separators)
        before = text[max(0, match.start() - 40) : match.start()]
        if _right(identity, compact, before) or any(
            pattern.fullmatch(match[0]) and _right(other, compact, before) for other, pattern in _EACH
        ):
            found.append("national_id")
            out.append(f"{text[done : match.start()]}[REDACTED:national_id]")
            done = match.end()
            match = _LETTERED.search(text, done)
        else:  # another may begin inside
            match = _LETTERED.search(text, match.start() + 1)
    return "".join(out) + text[done:] if out else text


def _right(identity: Lettered, compact: str, before: str) -> bool:
    return identity.check(compact) and (identity.words is None or identity.words.search(before) is not None)
