"""What the engine may raise: one error for a policy that can't be compiled, one for a record that can't be read."""

from __future__ import annotations

from pipeline.errors import PermanentError, PoisonError


class PolicyError(PermanentError):
    """The client's settings make no policy, such as gdpr without a pseudonym key: its events are held until they do."""


class UnparsableRecord(PoisonError):  # noqa: N818  # the name that the processor knows it by
    """The line isn't one JSON object in UTF-8. The reason names what is wrong, never what stands in the line."""
