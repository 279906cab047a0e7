"""Email addresses, network addresses, coordinates and accounts in text, found by their form."""

from __future__ import annotations

import ipaddress
import re

from pipeline.privacy import checks, words

_AT = re.compile(
    r"(?<=[\w!#$'*+^`|~.%\"-])[@＠](?:(?:[\w-]{1,63}+\.){1,8}(?:[^\W\d_]{2,24}|xn--[a-z0-9-]{2,59})(?![\w-])|\[[0-9A-Fa-f:.]{3,40}\])"
)
_LOCAL = frozenset("!#$'*+^`|~.%-_")
_FILES = words.table("png jpg jpeg gif svg webp avif ico js mjs css map woff woff2 ttf")
_IBAN = re.compile("[0-9]{2}(?<=[A-Za-z]{2}[0-9]{2})(?<![A-Za-z0-9][A-Za-z]{2}[0-9]{2})(?=[ -]?[A-Za-z0-9]{3})")
_IBAN_BODY = re.compile(r"[A-Za-z0-9](?:[ -]?[A-Za-z0-9]){14,33}")
# The boundary in front of these is looked for behind their first character, so that the search can skip to it.
_MAC = re.compile(
    r"[0-9A-Fa-f](?<![0-9A-Za-z:.-].)(?:[0-9A-Fa-f]:(?:[0-9A-Fa-f]{2}:){4}[0-9A-Fa-f]{2}(?![0-9A-Za-z:.-])"
    r"|[0-9A-Fa-f]-(?:[0-9A-Fa-f]{2}-){4}[0-9A-Fa-f]{2}(?![0-9A-Za-z:-])"
    r"|[0-9A-Fa-f]{3}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}(?![0-9A-Za-z:.-]))"
)
_IPV4 = re.compile(r"[0-9](?<![\w.-].)[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?![\w-]|\.[0-9])")
_VERSION = re.compile(
    r"(?:[A-Za-z][\w.+-]*/|\bv(?:er(?:sion)?)?\.? ?|(?:version|build|release|firmware|driver|sdk|update)\W{0,3})$",
    re.IGNORECASE,
)
_IPV6 = re.compile(
    r"[0-9A-Fa-f:](?<![\w:.].)(?:[0-9A-Fa-f]{0,3}(?<=[0-9A-Fa-f]):|(?<=:):)(?:[0-9A-Fa-f]{0,4}:){0,7}"
    r"(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{1,4})?(?![\w:])"
)
_PAIR = re.compile(
    r"[-+−0-9](?<![\w.].)([0-9]{0,3}\.[0-9]{3,15})°? ?[NSns]?(\s?[,;/|]\s?|\s)"
    r"([-+−]?[0-9]{1,3}\.[0-9]{3,15})(?![\w.])(?:°? ?[EWew]\b)?"
)
_DEGREES = re.compile(
    r"""(?<![\w.])[0-9]{1,3}°\s?[0-9]{1,2}(?:[.,][0-9]{1,6})?['′’]\s?(?:[0-9]{1,2}(?:[.,][0-9]{1,6})?(?:["″”]|'')\s?)?[NSEWOnsewo](?!\w)"""
)
_GEO = re.compile(r"\bgeo:[-+]?[0-9]{1,2}(?:\.[0-9]{1,15})?,[-+]?[0-9]{1,3}(?:\.[0-9]{1,15})?")
_LETTERED = re.compile(
    r"(?<![A-Za-z0-9_])(?<![A-Za-z0-9]-)(?:"
    r"(?P<nino>[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[A-D])"
    r"|(?P<fiscal>[A-Z]{6}[0-9LMNP-V]{2}[ABCDEHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z])"
    r"|(?P<dni>(?:[XYZ][ -]?[0-9]{7}|[0-9]{8}|[0-9]{2}\.[0-9]{3}\.[0-9]{3})[ -]?[A-HJ-NP-TV-Z])"
    r"|(?P<pps>[0-9]{7}[A-W][A-IW]?)"
    r"|(?P<hetu>[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-FHJ-NPR-Y])"
    r"|(?P<nir>[1278] ?[0-9]{2} ?[0-9]{2} ?2[AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2})"
    r"|(?P<driver>[A-Z]{2}[A-Z9]{3}[0-9]{6}[A-Z9]{2}[0-9][A-Z]{2})"
    r")(?![A-Za-z0-9_]|-[A-Za-z0-9])",
    re.IGNORECASE,
)
_LETTERED_CHECKS = {
    "nino": checks.uk_nino,
    "fiscal": checks.it_fiscal,
    "dni": checks.es_dni,
    "pps": checks.ie_pps,
    "hetu": checks.fi_hetu,
    "nir": checks.fr_nir,
    "driver": checks.uk_driver,
}
_SEPARATORS = str.maketrans("", "", " .-")


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


def ibans(text: str, found: list[str]) -> str:
    """`text` without account numbers whose country, length and check digits agree."""
    out: list[str] = []
    done = 0
    for match in _IBAN.finditer(text):
        start = match.start() - 2
        size = checks.IBAN_LENGTHS.get(text[start : start + 2].upper())
        if size is None or start < done:
            continue
        body = _IBAN_BODY.match(text, start)
        if body is None:
            continue
        compact, end = "", start
        for char in body[0]:
            if len(compact) == size:
                break
            end += 1
            if char not in " -":
                compact += char
        if len(compact) == size and not text[end : end + 1].isalnum() and checks.iban(compact.upper()):
            out.append(text[done:start])
            out.append("[REDACTED:iban]")
            found.append("iban")
            done = end
    return "".join(out) + text[done:] if out else text


def lettered_ids(text: str, found: list[str]) -> str:
    """`text` without national ids that mix letters and digits."""

    def replace(match: re.Match[str]) -> str:
        which = match.lastgroup or ""
        compact = match[0].upper()
        compact = compact if which == "hetu" else compact.translate(_SEPARATORS)
        if not _LETTERED_CHECKS[which](compact):
            return match[0]
        found.append("national_id")
        return "[REDACTED:national_id]"

    return _LETTERED.sub(replace, text)


def network(text: str, found: list[str], *, versions: bool = False) -> str:
    """`text` without MAC and IP addresses. With `versions`, four numbers with dots are a version."""
    if ":" in text:
        text = _IPV6.sub(lambda match: _ipv6(match, found), text)
    text = _MAC.sub(lambda _: _mark("mac", found), text)
    if not versions:
        text = _IPV4.sub(lambda match: _ipv4(match, text, found), text)
    return text


def coordinates(text: str, found: list[str]) -> str:
    """`text` without pairs of latitude and longitude of three decimals or more, degrees and minutes, geo: addresses."""
    if "°" in text:
        text = _DEGREES.sub(lambda _: _mark("coordinates", found), text)
    if "geo:" in text:
        text = _GEO.sub(lambda _: _mark("coordinates", found), text)
    return _PAIR.sub(lambda match: _pair(match, found), text)


def _pair(match: re.Match[str], found: list[str]) -> str:
    latitude = float((match[0][0] + match[1]).lstrip("-+−"))
    longitude = float(match[3].lstrip("-+−"))
    precise = match[2].strip() or min(len(match[1]), len(match[3])) >= 6
    return _mark("coordinates", found) if latitude <= 90 and longitude <= 180 and precise else match[0]


def _mark(kind: str, found: list[str]) -> str:
    found.append(kind)
    return f"[REDACTED:{kind}]"


def _ipv4(match: re.Match[str], text: str, found: list[str]) -> str:
    if any(int(octet) > 255 or (octet[0] == "0" and len(octet) > 1) for octet in match[0].split(".")):
        return match[0]
    before = text[max(0, match.start() - 24) : match.start()]
    if _VERSION.search(before) and "://" not in text[: match.start()]:
        return match[0]
    return _mark("ip", found)


def _ipv6(match: re.Match[str], found: list[str]) -> str:
    written = match[0]
    groups = [group for group in written.split(":") if group]
    if len(groups) < 2 or not any(len(group) > 2 for group in groups):
        return written
    try:
        ipaddress.IPv6Address(written)
    except ValueError:
        return written
    return _mark("ip", found)
