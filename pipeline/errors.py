"""What can go wrong, and what then has to happen.

Every error of the pipeline has one of three kinds: what is transient is tried again, what is permanent stops the
service, and poison goes to the dead letters. An error that is none of ours is unknown, and unknown means stop: the
process exits, Kubernetes starts it again, the ledger tells it where to go on.
"""

from __future__ import annotations


class PipelineError(Exception):
    """Root of all errors of this project.

    `hint` tells the operator how to mend it. Messages and hints never hold row values, keys or secrets.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = str(self.args[0])
        return f"{message} ({self.hint})" if self.hint else message


class TransientError(PipelineError):
    """Passes by itself: a time-out, a broker that is being restarted, a throttled request."""


class PermanentError(PipelineError):
    """Stays until somebody mends it: a missing privilege, a bucket that does not exist."""


class PoisonError(PipelineError):
    """One record or message that can't be processed, however often it is tried."""


class ConfigError(PermanentError):
    """The environment or the server is not set up as needed. The process prints one line and exits with status 2."""


class FencedError(PermanentError):
    """Another process owns what this one was about to write: the ledger's compare-and-set failed. Write nothing."""
