"""The value of a string: the detectors in their order, and the places inside a string where a value hides again.

A string may be an address with a query, percent-encoded, JSON of its own, or all of them inside each other. What no
hint of a detector touches is clean after one regular expression, and remembered while it is short.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

from pipeline.privacy import contacts, embedded, health, masks, numbers, places, record
from pipeline.privacy.consent import Decision
from pipeline.privacy.errors import UnparsableRecord
from pipeline.privacy.findings import Context, Findings, Found, Nested, Parameter
from pipeline.privacy.queries import Queries
from pipeline.privacy.shapes import ESCAPED, MARKER, QUERY, TIMESTAMP, UUID, query_in, redacted, unquoted, without_query

_ANSWERS = 64
"""Enough for the address that a record holds two or three times; each client has its own."""
_LONGEST_ANSWERED = 1_000
_OVERSIZE = 100_000
LARGE = 100_000
"""Bytes of a record from which on its texts are examined within a bound: what is beyond it is replaced."""
_MOST_EXAMINED = 90_000
"""Characters of suspicious text in a large record that are examined; each text and each part counts some more."""
_EACH = 60
_EACH_DOCUMENT = 200
_LONG_TEXT = 2_000
_LONGEST_STAMP = 40
_DEEPEST = 6
_MOST_PARTS = 2_000
"""More encoded parts than these in one string are not examined: the string is replaced whole."""

# Each begins with one set of characters, so that the search skips all others at the speed of a scan; what must stand
# around such a character is looked for behind it.
_FORMS = (
    "|(?<=[0-9])(?:(?:[ \u00a0\u2009\u202f.,_\u2010-\u2013/()-]{0,3}[0-9]){5}"
    "(?:[ \u00a0\u2009\u202f.,_\u2010-\u2013/()-]{0,3}[0-9]|[ -]?[A-Za-z+-])"
    "|\\.[0-9]{1,3}\\.[0-9]|\\.[0-9]{3}|[0-9][A-Za-z][0-9]{2} ?[A-Za-z])"
    "|(?<=[:.-])[0-9A-Fa-f]{0,4}[:.-][0-9A-Fa-f:]"
    "|(?<=[(<[{]) ?(?:at|AT|At|ät|a|arroba|chiocciola|arobase) ?[)>}\\]]"
    "|(?<=M)ozilla/"
)
_STRONG = re.compile(f"[@\u00b00-9:.M\uff20(<[{{-](?:(?<=[@\u00b0\uff20]){_FORMS})")
_HINT = re.compile(
    f"[@%&={{\\[\\\\\\x01\\x02\u00b00-9:.M\uff20(<-](?:(?<=[@%&={{\\[\\\\\\x01\\x02\u00b0\uff20]){_FORMS})"
)
_ANYTHING = re.compile("[^\\W_a-zA-Z]|[@%&=<(\\[{\\\\\\x01\\x02:]|[^\\x00-\\x7f]")
"""What a text too long to be examined must not hold. Long runs of it are common, so one character decides."""
_DIGITS = re.compile("[0-9](?:[ \u00a0\u2009\u202f._\u2010-\u2013/()-]{0,3}[0-9]){6}")
_LETTERED = re.compile("[0-9](?:(?:[ .-]{0,2}[0-9]){5}|[0-9][A-Ta-t][0-9]{2})")
_ACCOUNT = re.compile("[0-9]{2}(?<=[A-Za-z]{2}[0-9]{2})[ \u00a0.-]?[A-Za-z0-9]{3}")
_NETWORK = re.compile("[:.-][0-9A-Fa-f]{0,4}[:.-][0-9A-Fa-f:]")
_DECIMAL = re.compile("[0-9](?:\\.[0-9]{3}|,[0-9]{4})")
_SPELLED = re.compile(
    "[\\[({<] ?(?:at|ät|a|@|arroba|chiocciola|arobase) ?[\\])}>]| (?:dot|punkt) | @|@ ", re.IGNORECASE
)
PARAMETER_NAME = re.compile(r"(?<![^?&;#\s,{(])([\w.%+\[\]$~-]{1,240}+)=")
_PARAMETER = re.compile(PARAMETER_NAME.pattern + r"([^&;#\s]*)")
_TOKEN = re.compile(r"[^\s/?&=#;,\"'<>]++")
_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]{1,15}:)?//\S+|/\S*")
_ADDRESS = re.compile(r"[^\s\"'<>]++")
_SINGLE_ADDRESS = re.compile(r"(?:https?://|/)[^\s\"'<>{\[\\\x01\x02]++$")
_AGENT = re.compile(r"Mozilla/[0-9.]+ \([^\"]*")
_IMAGE = re.compile(r"data:(?:image|video|audio)/")
_WORDS = re.compile(r"\S\s+\S+\s+\S")


_UNEXAMINED = Found("[REDACTED:unexamined]", ["unexamined"])
_NOTHING = Decision(analytics=False, marketing=False, status="absent")


class Values:
    """The detectors of one policy. `nested` leads back to the rules for members, `parameter` to those for names."""

    def __init__(self, *, hipaa: bool, nested: Nested, parameter: Parameter, matters: Callable[[str], bool]) -> None:
        self._hipaa = hipaa
        self._nested = nested
        self._parameter = parameter
        self._matters = matters
        self._queries = Queries(parameter, matters, lambda part: bool(_STRONG.search(part)) or masks.suspected(part))
        self._answers: dict[tuple[str, Context, bool, bool], Found | None] = {}
        self._contexts: dict[Context, Context] | None = None
        self._left = 0

    def begin(self, size: int) -> None:
        """A new record of `size` bytes. Of a large one only so much is examined, the rest is replaced string by string.

        How much that is depends on the record alone: nothing that was remembered of others counts.
        """
        if size > LARGE:
            self._contexts = {}
            self._left = _MOST_EXAMINED
            self._answers.clear()
        elif self._contexts is not None:
            self._contexts = None
            self._answers.clear()

    def context(self, context: Context) -> Context:
        """`context`, or what stands for it while a large record is examined."""
        if self._contexts is None:
            return context
        if context not in self._contexts:
            self._contexts[context] = context.fresh()
        return self._contexts[context]

    def inspect(self, body: str, context: Context, keep: Decision, depth: int = 0) -> Found | None:
        """The new body of a string, in `record`'s form; None when nothing in it is or was redacted.

        Identifiers go unless `keep` allows them.
        """
        return None if self.harmless(body, context) else self.examine(body, context, keep, depth)

    def examine(self, body: str, context: Context, keep: Decision, depth: int = 0) -> Found | None:
        """`inspect` for a string that isn't harmless."""
        if self._left < 0 and self._contexts is not None:
            return _UNEXAMINED if redacted(body) is None else Found(body, MARKER.findall(body))
        cut = 0 if self._hipaa else query_in(body)
        if cut and self._known(body[:cut], body[cut:], context):
            context.remember(body)
            return None
        asked = (body, context, keep.analytics, keep.marketing)
        if not depth and asked in self._answers:
            return self._answers[asked]
        found = Findings(keep)
        new = self._split(body, cut, context, found, depth)
        answer = Found(new, found.kinds) if found.kinds else None
        if not depth:
            if answer is None and not found.depends:
                context.remember(body)
            elif len(body) <= _LONGEST_ANSWERED:
                if len(self._answers) >= _ANSWERS:
                    self._answers.clear()
                self._answers[asked] = answer
        return answer

    def _known(self, base: str, query: str, context: Context) -> bool:
        """Whether an address is clean as far as both of its parts were examined before, or the first is harmless."""
        return query in context.clean and (base in context.clean or self.harmless(base, context))

    def _split(self, body: str, start: int, context: Context, found: Findings, depth: int) -> str:
        """An address is examined before and from its query on: many share one query. At hipaa it has none."""
        if self._hipaa:
            cut = QUERY.search(body) if _SINGLE_ADDRESS.match(body) else None
            if cut:
                found.kinds.append("url")
                return self._part(body[: cut.start()], context, found, depth)
        elif start:
            return self._part(body[:start], context, found, depth) + self._query(body[start:], context, found, depth)
        return self._body(body, context, found, depth)

    def _query(self, query: str, context: Context, found: Findings, depth: int) -> str:
        if query in context.clean:
            return query
        inner = Findings(found.keep, parts=found.parts)
        new = self._queries.filter(query, inner)
        if new is None:
            return self._part(query, context, found, depth)
        if not (inner.kinds or inner.depends or depth):
            context.remember(query)
        found.kinds += inner.kinds
        found.depends = found.depends or inner.depends
        return new

    def _part(self, part: str, context: Context, found: Findings, depth: int) -> str:
        if part in context.clean or self.harmless(part, context):
            return part
        inner = Findings(found.keep, parts=found.parts)
        new = self._body(part, context, inner, depth)
        if not (inner.kinds or inner.depends or depth):
            context.remember(part)
        found.kinds += inner.kinds
        found.depends = found.depends or inner.depends
        return new

    def _body(self, body: str, context: Context, found: Findings, depth: int) -> str:
        text = record.unescape(body)
        new = self.text(text, context, found, depth)
        return body if new == text else record.escape(new)

    def harmless(self, body: str, context: Context | None = None) -> bool:
        """Whether nothing in a string can be an identifier, by a search or two; `context` remembers it if so."""
        if len(body) > _LONG_TEXT:
            return len(body) > _OVERSIZE and not _ANYTHING.search(body)
        if _HINT.search(body) or masks.suspected(body) or (self._hipaa and health.suspected(body)):
            return False
        if context is not None:
            context.remember(body)
        return True

    def name_kind(self, name: str) -> str | None:
        """The kind of what makes a member's name itself personal."""
        if "[REDACTED:" not in name and self.harmless(name[:_LONG_TEXT]):
            return None
        match = MARKER.fullmatch(name)
        if match:
            return match[1]
        findings = Findings(_NOTHING)
        self.text(name[:_LONG_TEXT], Context(), findings, _DEEPEST - 2)
        return findings.kinds[0] if findings.kinds else None

    def text(self, text: str, context: Context, found: Findings, depth: int) -> str:
        """`text` as it may leave; `found` gets the kind of every find, those of earlier runs too."""
        if self._hipaa:
            whole = self._whole(text, context)
            if whole:
                return self._mark(whole, found)
            if "?" in text or "#" in text:
                shorter = _ADDRESS.sub(without_query, text)
                if shorter != text:
                    found.kinds.append("url")
                    text = shorter
        if len(text) > _OVERSIZE:
            return self._mark("oversize", found) if _ANYTHING.search(text) else text
        if len(text) <= _LONGEST_STAMP and (
            UUID.fullmatch(text) or (not self._hipaa and len(text) > 13 and TIMESTAMP.fullmatch(text))
        ):
            return text
        if self._contexts is not None and not self._affordable(text):
            return self._mark("unexamined", found)
        if "[REDACTED:" in text:
            found.kinds.extend(MARKER.findall(text))
            if MARKER.fullmatch(text):
                return text
        try:
            return self._deep(text, context, found, depth)
        except numbers.Excess:
            return self._mark("unexamined", found)

    def _affordable(self, text: str) -> bool:
        """Whether a text of a large record may be examined. Markers count little: they are what an earlier run left."""
        size = len(MARKER.sub("", text) if "[REDACTED:" in text else text)
        if size:
            self._left -= _EACH + size
        return self._left >= 0 or not size

    def _deep(self, text: str, context: Context, found: Findings, depth: int) -> str:
        if depth >= _DEEPEST:
            return self._detect(text, context, found)
        if '"' in text and ("{" in text or "[" in text):
            start, end = embedded.whole(text)
            try:
                inner = self._document(text[start:end], found, depth + 1)
            except UnparsableRecord:
                text = self._documents(text, found, depth + 1)
            else:
                before, behind = text[:start], text[end:]
                return self._plain(before, context, found, depth) + inner + self._plain(behind, context, found, depth)
        return self._plain(text, context, found, depth) if text else text

    def _plain(self, text: str, context: Context, found: Findings, depth: int) -> str:
        """`text`, which is no JSON, without what stands in it, as it is, encoded or in disguise."""
        if "=" in text and self._has_parameter(text):
            text = _PARAMETER.sub(lambda match: self._one_parameter(match, context, found, depth), text)
        if "%" in text and ESCAPED.search(text):
            text = _TOKEN.sub(
                lambda match: (
                    self._decoded(match[0], context, found, depth, plus=False) if "%" in match[0] else match[0]
                ),
                text,
            )
        return self._unmasked(self._detect(text, context, found), context, found, depth)

    def _document(self, text: str, found: Findings, depth: int) -> str:
        """A JSON text inside a string. Raises UnparsableRecord."""
        self._left -= _EACH_DOCUMENT
        if self._contexts is not None and self._left < 0:
            raise numbers.Excess
        return self._nested(text, found, depth)

    def _documents(self, text: str, found: Findings, depth: int) -> str:
        """`text` with the JSON documents in it filtered."""
        out: list[str] = []
        done = 0
        for start, end in embedded.documents(text):
            try:
                new = self._document(text[start:end], found, depth)
            except UnparsableRecord:
                continue
            out.append(text[done:start] + new)
            done = end
        return "".join(out) + text[done:] if out else text

    def _unmasked(self, text: str, context: Context, found: Findings, depth: int) -> str:
        """`text` without what stands in it in disguise."""
        for mask in masks.MASKS:
            plain = mask.off(text)
            if plain is not None and plain != text:
                new = self._inside(plain, context, found, depth)
                if new is not None:
                    text = mask.on(new)

        def examine(plain: str) -> str | None:
            before = len(found.kinds)
            found_inside = self._inside(plain, context, found, depth)
            return None if found_inside is None else f"[REDACTED:{found.kinds[before]}]"

        return masks.unmask_base64(text, examine)

    def _inside(self, plain: str, context: Context, found: Findings, depth: int) -> str | None:
        """What is left of the plain text behind an encoding; None when nothing new was found in it."""
        found.parts += 1
        self._left -= _EACH
        if found.parts > _MOST_PARTS or (self._contexts is not None and self._left < 0):
            raise numbers.Excess
        if self.harmless(plain):
            return None
        inner = Findings(found.keep, parts=found.parts)
        new = self.text(plain, context, inner, depth + 1)
        found.depends = found.depends or inner.depends
        found.parts = inner.parts
        if new == plain:
            return None
        known = len(MARKER.findall(plain))
        found.kinds += inner.kinds[known:] or inner.kinds
        return new

    def _detect(self, text: str, context: Context, found: Findings) -> str:
        if _STRONG.search(text) or (" " in text and contacts.spells_dots(text)):
            text = self._forms(text, context, found)
        return health.scan(text, found.kinds) if self._hipaa else text

    def _forms(self, text: str, context: Context, found: Findings) -> str:
        if "Mozilla/" in text:
            text = _AGENT.sub(lambda _: self._mark("user_agent", found), text)
        if "@" in text or "＠" in text:
            text = contacts.emails(text, found.kinds)
        if _SPELLED.search(text):
            text = contacts.spelled_emails(text, found.kinds)
        if _NETWORK.search(text):
            text = places.network(text, found.kinds, versions=context.versions)
        if _DECIMAL.search(text) or "°" in text or "geo:" in text:
            text = places.coordinates(text, found.kinds)
        if _ACCOUNT.search(text):
            text = contacts.ibans(text, found.kinds)
        if _LETTERED.search(text):
            text = contacts.lettered_ids(text, found.kinds)
        if _DIGITS.search(text):
            finder = numbers.Finder(identifiers=context.identifiers)
            if self._contexts is not None:
                finder.left = min(finder.left, self._left // _EACH)
            before = finder.left
            try:
                text = finder.replace(text)
            finally:
                self._left -= _EACH * (before - finder.left)
            found.kinds.extend(finder.found)
        return text

    def _whole(self, text: str, context: Context) -> str | None:
        if _IMAGE.match(text):
            return "image"
        if "[REDACTED:" in text:
            text = MARKER.sub("x", text)  # so that a text is as long as it was before
        if (
            context.free_text
            and len(text) > 8
            and text.lstrip()[:1] not in ("{", "[")
            and _WORDS.search(text[:_LONG_TEXT])
        ):
            return "free_text"
        if len(text) > _LONG_TEXT and text.lstrip()[:1] not in ("{", "[") and not _URL.match(text):
            return "free_text"
        return None

    def _has_parameter(self, text: str) -> bool:
        """Whether the query has a name that matters or a value that must be decoded; quicker than to look at each."""
        matters = self._matters
        return any("%" in value or "+" in value or matters(name) for name, value in _PARAMETER.findall(text))

    def _one_parameter(self, match: re.Match[str], context: Context, found: Findings, depth: int) -> str:
        name, value = match[1], match[2]
        matters = self._matters(name)
        encoded = "%" in value or "+" in value
        if not value or not (matters or encoded) or redacted(value):
            return match[0]
        kind = matters and self._parameter(unquoted(name), unquoted(value.replace("+", " ")), match.string, found)
        if kind:
            return f"{name}={self._mark(kind, found)}"
        if encoded:
            return f"{name}={self._decoded(value, context, found, depth, plus=True)}"
        return match[0]

    def _decoded(self, encoded: str, context: Context, found: Findings, depth: int, *, plus: bool) -> str:
        """Percent-encoded text is read as often as it was encoded, and encoded again where something was found."""
        text = encoded.replace("+", " ") if plus and not encoded.startswith("+") else encoded
        text = unquoted(text)
        if text == encoded:
            return encoded
        new = self._inside(text, context, found, depth)
        if new is None:
            return encoded
        return quote(new, safe="[]:,@/ !*()'~$").replace(" ", "+" if plus else "%20")

    @staticmethod
    def _mark(kind: str, found: Findings) -> str:
        found.kinds.append(kind)
        return f"[REDACTED:{kind}]"
