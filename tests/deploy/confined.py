"""`python -m tests.deploy.confined UNIT COMMAND…`: run a command under what a unit of systemd forbids to all of it.

These are SystemCallFilter, SystemCallErrorNumber, RestrictAddressFamilies and MemoryDenyWriteExecute, put up as systemd
does it: by seccomp (libseccomp) and, for the last, by Linux 6.3 itself. Exit code 77: the kernel is older.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from tests.deploy.unit import value, values

LIBRARY = "libseccomp.so.2"
OLD_KERNEL = 77
FAMILIES = 64
"""More than Linux has."""
ALLOW = 0x7FFF0000
EQUAL, AT_LEAST = 4, 5
PR_SET_MDWE, PR_SET_NO_NEW_PRIVS = 65, 38


class Comparison(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


class Filter:
    """What becomes of system calls: `default`, but for those with a rule."""

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL(LIBRARY)
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))
        assert self._context

    def rule(self, action: int, name: str, *comparisons: Comparison) -> None:
        """A name that this machine has no call for is passed over, as systemd does."""
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            given = (Comparison * len(comparisons))(*comparisons)
            action_, count = ctypes.c_uint32(action), ctypes.c_uint(len(comparisons))
            assert self._library.seccomp_rule_add_array(self._context, action_, number, count, given) == 0, name

    def load(self) -> None:
        assert self._library.seccomp_load(self._context) == 0


def refused(number: int) -> int:
    return 0x00050000 | number


def groups() -> dict[str, list[str]]:
    """The groups of system calls that systemd knows, each with what it holds: calls and groups."""
    command = ["systemd-analyze", "--no-pager", "syscall-filter"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, list[str]] = {}
    for line in told.splitlines():
        if line.startswith("@"):
            found[line] = []
        elif line.startswith(" ") and not line.strip().startswith("#"):
            found[next(reversed(found))].append(line.strip())
    return found


def calls(names: Iterable[str], known: Mapping[str, list[str]]) -> Iterator[str]:
    """The system calls named, and those of groups named, also of groups in groups."""
    for name in names:
        if name.startswith("@"):
            yield from calls(known[name], known)
        else:
            yield name


def allowed(lines: list[str]) -> set[str]:
    """What SystemCallFilter= leaves. Only lists that begin with what is allowed are understood."""
    assert lines
    assert not lines[0].startswith("~")
    known = groups()
    found = set(calls(["@default"], known))
    for line in lines:
        if line.startswith("~"):
            found -= set(calls(line[1:].split(), known))
        else:
            found |= set(calls(line.split(), known))
    return found


def confine(unit: str) -> None:
    calls_left = allowed(values("SystemCallFilter", unit))
    families = {int(getattr(socket, name)) for name in value("RestrictAddressFamilies", unit).split()}
    control = ctypes.CDLL(None).prctl
    if value("MemoryDenyWriteExecute", unit) == "yes" and control(PR_SET_MDWE, 1, 0, 0, 0):
        sys.exit(OLD_KERNEL)
    assert control(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0

    sockets = Filter(ALLOW)
    other = [Comparison(0, EQUAL, family, 0) for family in range(FAMILIES) if family not in families]
    for comparison in [*other, Comparison(0, AT_LEAST, FAMILIES, 0)]:
        sockets.rule(refused(errno.EAFNOSUPPORT), "socket", comparison)
    sockets.load()
    system_calls = Filter(refused(getattr(errno, value("SystemCallErrorNumber", unit))))
    for name in calls_left:
        system_calls.rule(ALLOW, name)
    system_calls.load()


def found_open() -> list[str]:
    """What is possible although the unit forbids it: that it is confined is looked at, not believed."""
    attempts: list[tuple[str, Callable[[], object]]] = [
        ("memory that is writable and executable", lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)),
        ("sockets of another family", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
        ("system calls that are privileged", lambda: os.chroot("/")),
    ]
    found = []
    for what, attempt in attempts:
        try:
            attempt()
        except OSError:
            continue
        found.append(what)
    return found


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text()
    confine(text)
    if left := found_open():
        sys.exit(f"found {', '.join(left)}")
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606
