"""Network addresses and places in text: IP and MAC addresses, coordinates in decimals, degrees and geo: addresses."""

from __future__ import annotations

import ipaddress
import re

# The boundary in front of these is looked for behind their first character, so that the search can skip to it.
_HEX = "[0-9A-Fa-f]"
_MAC = re.compile(
    rf"{_HEX}(?<![0-9A-Za-z.-].)(?<![^A-Za-z]{_HEX}{{2}}:.)(?<!^{_HEX}{{2}}:.)(?:{_HEX}:(?:{_HEX}{{2}}:){{4}}(?:{_HEX}{{2}}:{_HEX}{{2}}:)?"
    rf"{_HEX}{{2}}(?![0-9A-Za-z:-]|\.[0-9A-Za-z])"
    rf"|{_HEX}-(?:{_HEX}{{2}}-){{4}}(?:{_HEX}{{2}}-{_HEX}{{2}}-)?{_HEX}{{2}}(?![0-9A-Za-z:-])"
    rf"|{_HEX}{{3}}\.{_HEX}{{4}}\.{_HEX}{{4}}(?![0-9A-Za-z:-]|\.[0-9A-Za-z]))"
)
_IPV4 = re.compile(r"[0-9](?<![^\W_].)(?<![.-].)[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?![^\W_]|-[^\W_]|\.[0-9])")
_VERSION = re.compile(
    r"(?:(?<![^\s(;,=])(?=[\w.+-]{0,20}(?-i:[A-Z])|nginx|curl|wget|node|npm|php|python|okhttp|axios|java|go|dart|ruby|perl|lib)"
    r"[A-Za-z][\w.+-]{0,20}/|\bv(?:er(?:sion)?)?[.:]? ?"
    r"|(?:version|build|release|firmware|driver|sdk|update)\W{0,3}"
    r"|(?:chapter|section|paragraph|clause|article|figure|table|step|rule|annex|kapitel|abschnitt|absatz|§)\W{0,2})$",
    re.IGNORECASE,
)
_IPV6 = re.compile(
    r"[0-9A-Fa-f:](?<![^\W_].)(?<![.].)(?:[0-9A-Fa-f]{0,3}(?<=[0-9A-Fa-f]):|(?<=:):)(?:[0-9A-Fa-f]{0,4}:){0,7}"
    r"(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{1,4})?(?![\w:])"
)
_RELEASED = re.compile(r"[ -](?:release|update|patch|build|changelog|version|beta|alpha|rc)\b", re.IGNORECASE)
_PORT = re.compile("[:/][0-9]")
_DIGIT = re.compile("[0-9]")
_HEX_GROUP = re.compile("(?<![0-9A-Za-z])[0-9A-Fa-f]{0,4}:$")
_NUMBER = r"[-+−]?[0-9]{1,3}\.[0-9]{2,15}"
_PAIR = re.compile(
    r"[-+−0-9](?<![^\W_].)(?<![.].)([0-9]{0,3}\.[0-9]{2,15})(°? ?[NSns]?)(\s?[,;/|]\s?|\s|(?=[-+]))"
    r"([-+−]?[0-9]{1,3}\.[0-9]{2,15})(?!\w|\.\w|°C)(°? ?[EWew]\b)?"
)
_COMMAS = re.compile(
    r"(?<![^\W_])(?<![.,])[-−]?([0-9]{1,2}),[0-9]{4,15}\s?[;/|]\s?[-−]?([0-9]{1,3}),[0-9]{4,15}(?!\w|,\w)"
)
_HEMISPHERES = re.compile(
    rf"(?<!\w)[NS]\s?{_NUMBER}°?[,;/\s]{{0,3}}[EW]\s?{_NUMBER}°?(?!\w)|{_NUMBER}°?\s?[NS][,;/\s]{{0,3}}{_NUMBER}°?\s?[EWO](?!\w)"
)
_STYLE = re.compile(r"(?:matrix|matrix3d|translate|translate3d|rotate|scale|bezier|rgba?|hsla?|polygon|inset)\([^()]*$")
_LABELLED = re.compile(
    r"(?<![A-Za-z])(lat|latitude|lng|lon|long|longitude|breite|l[äa]nge)((?:[^\w.+-]|_){1,4})([-+−]?[0-9]{1,3}\.[0-9]{3,15})(?!\w|\.\w)",
    re.IGNORECASE,
)
_LABELS = re.compile("l(?:at|ng|on)|breite", re.IGNORECASE)
_HALF = r"[0-9]{1,3}°\s?[0-9]{1,2}(?:[.,][0-9]{1,6})?\s?['′’]\s?(?:[0-9]{1,2}(?:[.,][0-9]{1,6})?\s?(?:[\"″”]|'')\s?)?"
_DEGREES = re.compile(rf"(?<![\w.])(?:[NSEWOnsewo]\s?{_HALF}|{_HALF}[NSEWOnsewo](?!\w))")
_GEO = re.compile(r"\bgeo:[-+]?[0-9]{1,2}(?:\.[0-9]{1,15})?,[-+]?[0-9]{1,3}(?:\.[0-9]{1,15})?", re.IGNORECASE)


def network(text: str, found: list[str], *, versions: bool = False) -> str:
    """`text` without MAC and IP addresses. With `versions`, four numbers with dots are a version."""
    if ":" in text:
        text = _IPV6.sub(lambda match: _ipv6(match, text, found), text)
    text = _MAC.sub(lambda _: _mark("mac", found), text)
    if not versions and "." in text:
        text = _IPV4.sub(lambda match: _ipv4(match, text, found), text)
    return text


def coordinates(text: str, found: list[str]) -> str:
    """`text` without pairs of latitude and longitude, degrees and minutes, geo: addresses, labelled single ones."""
    if "°" in text:
        text = _DEGREES.sub(lambda _: _mark("coordinates", found), text)
    if ":" in text:
        text = _GEO.sub(lambda _: _mark("coordinates", found), text)
    if _LABELS.search(text):
        text = _LABELLED.sub(lambda match: f"{match[1]}{match[2]}{_mark('coordinates', found)}", text)
    text = _HEMISPHERES.sub(lambda _: _mark("coordinates", found), text)
    if "," in text:
        text = _COMMAS.sub(lambda match: _with_commas(match, found), text)
    return _PAIR.sub(lambda match: _pair(match, found), text)


def _pair(match: re.Match[str], found: list[str]) -> str:
    """Four decimals tell a place from two prices; three do where a sign or a hemisphere does, which no price has."""
    if _STYLE.search(match.string, max(0, match.start() - 80), match.start()):
        return match[0]
    first = match[0][0] + match[1]
    latitude = float(first.lstrip("-+−") or 0)
    longitude = float(match[4].lstrip("-+−"))
    decimals = [len(number.partition(".")[2]) for number in (match[1], match[4])]
    signed = first[0] in "-−+" or match[4][0] in "-−+" or bool(match[2].strip()) or bool(match[5])
    if not match[3] and first[0] not in "-−+":
        precise = False
    elif match[3].strip() or signed:
        precise = max(decimals) >= 4 or (signed and min(decimals) >= 3)
    else:
        precise = min(decimals) >= 6
    # Well-known text writes the longitude first.
    on_earth = (latitude <= 90 and longitude <= 180) or (latitude <= 180 and longitude <= 90)
    return _mark("coordinates", found) if on_earth and precise else match[0]


def _with_commas(match: re.Match[str], found: list[str]) -> str:
    return _mark("coordinates", found) if int(match[1]) <= 90 and int(match[2]) <= 180 else match[0]


def _mark(kind: str, found: list[str]) -> str:
    found.append(kind)
    return f"[REDACTED:{kind}]"


def _ipv4(match: re.Match[str], text: str, found: list[str]) -> str:
    octets = match[0].split(".")
    padded = all(len(octet) == 3 for octet in octets)
    if any(int(octet) > 255 or (octet[0] == "0" and len(octet) > 1 and not padded) for octet in octets):
        return match[0]
    before = text[max(0, match.start() - 24) : match.start()]
    released = _RELEASED.match(text, match.end())
    if released or (not _PORT.match(text, match.end()) and _VERSION.search(before)):
        return match[0]
    return _mark("ip", found)


def _ipv6(match: re.Match[str], text: str, found: list[str]) -> str:
    """Groups of hexadecimal digits; `a::b` and times are none. What follows a word and a colon may be one."""
    written = match[0]
    groups = [group for group in written.split(":") if group]
    telling = len(groups) >= 2 and any(len(group) > 2 for group in groups) and _DIGIT.search(written)
    if not (telling or written == "::1"):
        return written
    start = match.start()
    if start and text[start - 1] == ":" and _HEX_GROUP.search(text[max(0, start - 6) : start]):
        return written
    try:
        ipaddress.IPv6Address(written)
    except ValueError:
        return written
    return _mark("ip", found)
