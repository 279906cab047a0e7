"""A user agent reduced to family, major version, operating system and device class.

The four answers come from the closed lists below, so the reduced form can hold nothing of the original text but up to
four digits of a version.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from pipeline.privacy import record


class Agent(NamedTuple):
    """What is left of a user agent."""

    family: str
    major: str
    os: str
    device: str


# The first that matches names the family: what builds on Chrome also says Chrome, Chrome also says Safari.
_FAMILIES = (
    ("Edge", r"Edg(?:e|A|iOS)?/([0-9]{1,4})"),
    ("Opera", r"(?:OPR|OPiOS|OPT|Opera(?: Mini| Mobi)?)/([0-9]{1,4})"),
    ("Samsung Internet", r"SamsungBrowser/([0-9]{1,4})"),
    ("Vivaldi", r"Vivaldi/([0-9]{1,4})"),
    ("Yandex", r"YaBrowser/([0-9]{1,4})"),
    ("UC Browser", r"UC ?Browser/([0-9]{1,4})"),
    ("DuckDuckGo", r"(?:DuckDuckGo|Ddg)/([0-9]{1,4})"),
    ("Brave", r"Brave/([0-9]{1,4})"),
    ("Facebook", r"FB(?:AV|SV)/([0-9]{1,4})"),
    ("Instagram", r"Instagram ([0-9]{1,4})"),
    ("Silk", r"Silk/([0-9]{1,4})"),
    ("Huawei Browser", r"HuaweiBrowser/([0-9]{1,4})"),
    ("Mi Browser", r"MiuiBrowser/([0-9]{1,4})"),
    ("Firefox", r"(?:Firefox|FxiOS)/([0-9]{1,4})"),
    ("Chrome", r"(?:Headless)?(?:Chrome|CriOS|Chromium)/([0-9]{1,4})"),
    ("Internet Explorer", r"(?:MSIE |Trident/.{0,200}rv:)([0-9]{1,4})"),
    ("Safari", r"Version/([0-9]{1,4})[^ ]* (?:Mobile/[^ ]+ )?Safari/"),
    ("Safari", r"AppleWebKit/([0-9]{1,4})"),
    ("curl", r"curl/([0-9]{1,4})"),
    ("Python", r"(?:python-requests|aiohttp|python-httpx|Python-urllib)/([0-9]{1,4})"),
    ("OkHttp", r"okhttp/([0-9]{1,4})"),
)
_FAMILY = tuple((name, re.compile(pattern)) for name, pattern in _FAMILIES)
_OS = (
    ("iOS", ("iPhone", "iPad", "iPod", "CFNetwork")),
    ("Android", ("Android", "Silk")),
    ("Windows", ("Windows",)),
    ("ChromeOS", ("CrOS",)),
    ("macOS", ("Macintosh", "Mac OS X")),
    ("Tizen", ("Tizen",)),
    ("Linux", ("Linux", "X11", "Ubuntu")),
)
_BOT = re.compile(
    r"bot\b|bot/|crawl|spider|slurp|headless|lighthouse|preview|monitor|facebookexternalhit|curl/|python|okhttp|wget",
    re.I,
)
_TV = re.compile(r"smart-?tv|appletv|googletv|hbbtv|bravia|roku|crkey|\btv\b|tizen.{0,40}tv", re.I)
_TABLET = re.compile(r"iPad|Tablet|Kindle|Silk/|PlayBook|SM-T[0-9]")
_MOBILE = re.compile(r"Mobi|iPhone|iPod|Windows Phone|Opera Mini")

OTHER = "other"
FAMILIES = frozenset([name for name, _ in _FAMILIES] + [OTHER])
SYSTEMS = frozenset([name for name, _ in _OS] + [OTHER])
DEVICES = frozenset(("desktop", "mobile", "tablet", "tv", "bot", OTHER))
_LONGEST = 1024
_MAJOR = re.compile(r"[0-9]{0,4}")


def reduce(agent: str) -> Agent:
    """The reduced form of any text; what isn't recognised is `other`."""
    agent = agent[:_LONGEST]
    family, major = OTHER, ""
    for name, pattern in _FAMILY:
        found = pattern.search(agent)
        if found:
            family, major = name, found[1]
            break
    system = next((name for name, marks in _OS if any(mark in agent for mark in marks)), OTHER)
    return Agent(family, major, system, _device(agent, system))


def _device(agent: str, system: str) -> str:
    if _BOT.search(agent):
        return "bot"
    if _TV.search(agent):
        return "tv"
    if _TABLET.search(agent) or (system == "Android" and "Mobile" not in agent):
        return "tablet"
    if _MOBILE.search(agent):
        return "mobile"
    return "desktop" if system in ("Windows", "macOS", "Linux", "ChromeOS") else OTHER


def is_reduced(member: str, value: str) -> bool:
    """Whether `value` may stand in member `member` of a reduced form."""
    match member:
        case "family":
            return value in FAMILIES
        case "major":
            return _MAJOR.fullmatch(value) is not None
        case "os" | "platform":
            return value in SYSTEMS
        case "device":
            return value in DEVICES
        case _:
            return False


@lru_cache(maxsize=8192)
def reduced(body: str) -> str:
    """The reduced form of a user agent's body, an object as JSON."""
    agent = reduce(record.unescape(body))
    return f'{{"family":"{agent.family}","major":"{agent.major}","os":"{agent.os}","device":"{agent.device}"}}'
