"""Names of members: every spelling of a personal name is known, names of things are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.privacy import names

WORDS = [
    ["billing", "email"],
    ["customer", "phone", "number"],
    ["user", "first", "name"],
    ["shipping", "street", "address"],
]
STYLES = {
    "camel": lambda words: words[0] + "".join(word.title() for word in words[1:]),
    "pascal": lambda words: "".join(word.title() for word in words),
    "snake": lambda words: "_".join(words),
    "kebab": lambda words: "-".join(words),
    "dotted": lambda words: ".".join(words),
    "spaced": lambda words: " ".join(words).title(),
    "bracketed": lambda words: words[0] + "".join(f"[{word}]" for word in words[1:]),
    "upper": lambda words: "_".join(words).upper(),
    "numbered": lambda words: "_".join(words) + "_2",
    "plural": lambda words: "_".join(words) + ("es" if words[-1].endswith("s") else "s"),
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("words", WORDS, ids=lambda words: "".join(words))
def test_a_personal_name_is_known_in_every_style(style: str, words: list[str]) -> None:
    found = names.classify(STYLES[style](words))
    assert found is not None
    assert found.group == "pii"


@pytest.mark.parametrize(
    "name",
    ["product_name", "eventName", "utm_email", "email_template", "phoneModel", "has_phone", "headphone", "emailSent"],
)
def test_a_name_of_something_else_is_not_personal(name: str) -> None:
    assert names.classify(name) is None


@given(st.text(max_size=200))
def test_any_text_can_be_a_name(name: str) -> None:
    names.classify(name)
    names.neutral(name)
    names.people(name)
    names.things(name)
    names.thing_sign(name)
    names.text_allowed(name)
