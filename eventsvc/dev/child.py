"""A script that becomes a server: it gives up root, sets the niceness, and lets the kernel end it with its parent.

``python child.py PARENT_PID DEATH_SIGNAL UID NICE PROGRAM ARGUMENT…`` (UID -1: keep the user). The script imports
only the standard library, so that it starts in milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 4
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_READ_SEARCH = 2
_CAPABILITIES = 64
_CAPABILITY_VERSION_3 = 0x20080522


def _give_up_root(libc: ctypes.CDLL, uid: int) -> None:
    """Become ``uid``, and keep one privilege, to read every file: programs may lie below /root."""
    # Without this bit, a change of the user id drops all capabilities, and access(2), which Java calls, ignores them.
    libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    for capability in range(_CAPABILITIES):
        if capability != _CAP_DAC_READ_SEARCH:
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    reading = 1 << _CAP_DAC_READ_SEARCH
    # Two sets of (effective, permitted, inheritable). Some containers do not have this privilege. There, everybody must
    # be allowed to read the programs.
    if libc.capset(header, (ctypes.c_uint32 * 6)(reading, reading, reading, 0, 0, 0)) == 0:
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_READ_SEARCH, 0, 0)
    else:
        libc.capset(header, (ctypes.c_uint32 * 6)())
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _stand_back(nice: int) -> None:
    os.nice(nice)
    # With autogroups, the kernel compares niceness only within a session; each session has a niceness of its own.
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w", encoding="ascii") as group:  # noqa: PTH123
        group.write(str(nice))


def main() -> None:
    """Become the server."""
    parent, death_signal, uid, nice = (int(text) for text in sys.argv[1:5])
    command = sys.argv[5:]
    if nice:
        _stand_back(nice)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if uid >= 0:
            _give_up_root(libc, uid)
        # This call comes last, because a change of the user id clears the signal.
        libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606  (no shell on purpose)
    except OSError as exc:
        sys.exit(f"{command[0]} cannot be run as user {os.getuid()}: {exc.strerror}")


if __name__ == "__main__":
    main()
