"""Free ports of the loopback interface, below those that the kernel hands out to outgoing connections."""

from __future__ import annotations

import random
import socket

_FIRST, _LAST = 20000, 32000  # Linux hands out 32768 and above


def is_free(port: int) -> bool:
    """Whether a server could bind it now. Connections of an earlier server that linger don't count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def choose(names: tuple[str, ...], earlier: dict[str, int]) -> dict[str, int]:
    """A port for each name: the earlier one if it is still free, else any."""
    chosen: dict[str, int] = {}
    for name in names:
        port = earlier.get(name)
        while port is None or port in chosen.values() or not is_free(port):
            port = random.randint(_FIRST, _LAST)
        chosen[name] = port
    return chosen
