"""Hosts and site ids as attribution compares them: case, ports, dots at the end, www, IDN and subdomains. Pure."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from urllib.parse import urlsplit

LONGEST_NAME = 2_000
"""Characters. What is longer is no host's name and no site's id."""

_PORT = re.compile(r":[0-9]{1,5}$")
_DOTS = str.maketrans({"\u3002": ".", "\uff0e": ".", "\uff61": "."})


def host_of(url: str) -> str | None:
    """The host that a browser would ask for `url`; None when there is none."""
    try:
        # To a browser a backslash is a slash: "https://a.example\\@b.example/" is a.example's.
        return urlsplit(url.strip().replace("\\", "/")).hostname
    except ValueError:
        return None


@lru_cache(maxsize=16_384)
def normal_name(text: str) -> str:
    """The form in which names are compared: of a host, a host with port, an address, or any other site id.

    IDN in Punycode, so that `b\u00fccher.example` and `xn--bcher-kva.example` are one. '' when nothing is left.
    """
    name = text.strip()[:LONGEST_NAME]
    if "://" in name:
        name = host_of(name) or ""
    name = name.translate(_DOTS)
    if "." in name or name.startswith("["):  # a site id may be `tenant:7`
        name = _PORT.sub("", name).strip(".[]").removeprefix("*.")
    if not name.isascii():
        name = ".".join(_label(label) for label in name.split("."))
    return name.lower()


@lru_cache(maxsize=16_384)
def names_of(text: str) -> tuple[str, ...]:
    """Under which names `text` may be registered, the most specific first: itself, with or without www, its parents.

    A single label is nobody's parent, and neither is a part of an IP address.
    """
    name = normal_name(text)
    if not name:
        return ()
    bare = name.removeprefix("www.")
    names = [name, bare if bare != name else f"www.{name}"]
    labels = bare.split(".")
    if len(labels) > 2 and not labels[-1].isdigit() and ":" not in name:
        names += [".".join(labels[start:]) for start in range(1, len(labels) - 1)]
    return tuple(names)


def _label(label: str) -> str:
    if label.isascii():
        return label
    # What browsers do (UTS 46, non-transitional) but for rare mappings: a name that uses them finds no owner.
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", label).lower())
    return folded if folded.isascii() else "xn--" + folded.encode("punycode").decode("ascii")
