"""Become a child that can't outlive its parent: `launch.py PARENT_PID SIGNAL USER PROGRAM ARGUMENTS...`.

Run by path in an isolated interpreter, so it imports nothing of ours. It gives up root when USER isn't `-`, asks the
kernel for SIGNAL when the parent dies, and becomes PROGRAM. The order matters: changing the user clears that request.
https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
"""

import ctypes
import os
import pwd
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


def main(arguments: list[str]) -> None:
    """Never returns."""
    parent, signal_number, user, *command = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    if user != "-":
        _become(libc, user)
    if sys.platform == "linux":
        libc.prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
    if os.getppid() != int(parent):  # it died before we asked
        sys.exit(1)
    try:
        os.execv(command[0], command)  # noqa: S606 - to become it is the purpose
    except PermissionError:
        sys.exit(f"the user {user} can't reach {command[0]}: let others pass its parent folders (chmod o+x)")


def _become(libc: ctypes.CDLL, user: str) -> None:
    """Change to `user`, who keeps one right of root's: to pass through folders that are closed to others.

    A checkout or a temporary folder below a mode 0700 folder is common; PostgreSQL only minds its user number.
    """
    entry = pwd.getpwnam(user)
    if sys.platform == "linux":
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    if sys.platform != "linux":
        return
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice, for 64 capabilities
    libc.capget(header, data)
    kept = next((c for c in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE) if data[1] & (1 << c)), None)
    if kept is not None:
        bit = 1 << kept
        libc.capset(header, (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0))
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, kept, 0, 0)


if __name__ == "__main__":
    main(sys.argv[1:])
