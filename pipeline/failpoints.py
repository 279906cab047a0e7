"""Named places at which a test kills the process, to prove that nothing depends on how far it came."""

from __future__ import annotations

import os
import signal

_NAME, _, _NTH = os.environ.get("FAILPOINT", "").partition(":")
_left = int(_NTH or 1)


def reach(name: str) -> None:
    """Die by SIGKILL when the environment says FAILPOINT=name, or name:n for the n-th time; else do nothing."""
    global _left
    if name == _NAME:
        _left -= 1
        if _left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
