"""Run in a mount namespace of its own: a file system whose server keeps silent until it is told what to do.

    unshare --mount --propagation private python hung_mount.py HUNG HEALTHY

mounts a FUSE file system without a server at HUNG, so that statvfs(2) of it blocks (the kernel waits for the answer to
FUSE_INIT), and a tmpfs at HEALTHY; says `ready`, and takes commands on standard input: `answer` serves it from then on.
The numbers are those of the kernel's include/uapi/linux/fuse.h. It ends with its input, and the mounts with it.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import threading

INIT, STATFS, ENOSYS = 26, 17, 38
NO_ANSWER = {2, 36, 42}  # FORGET, INTERRUPT, BATCH_FORGET
BLOCKS, FREE, AVAILABLE, FILES, FILES_FREE, BLOCK = 1000, 300, 200, 50, 40, 4096
IN_HEADER = struct.Struct("=IIQQIIII")
OUT_HEADER = struct.Struct("=IiQ")


def mount(source: str, where: str, kind: str, options: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), where.encode(), kind.encode(), 0, options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), where)


def answer_to(operation: int) -> tuple[int, bytes]:
    """Error and body of an answer."""
    if operation == INIT:
        return 0, struct.pack("=IIIIHHIIHH32x", 7, 31, 65536, 0, 12, 9, 65536, 1, 0, 0)
    if operation == STATFS:
        return 0, struct.pack("=QQQQQIIII24x", BLOCKS, FREE, AVAILABLE, FILES, FILES_FREE, BLOCK, 255, BLOCK, 0)
    return -ENOSYS, b""


def serve(fuse: int) -> None:
    while True:
        request = os.read(fuse, 1 << 17)
        _, operation, unique, *_ = IN_HEADER.unpack_from(request)
        if operation not in NO_ANSWER:
            error, body = answer_to(operation)
            os.write(fuse, OUT_HEADER.pack(OUT_HEADER.size + len(body), error, unique) + body)


def main(hung: str, healthy: str) -> None:
    fuse = os.open("/dev/fuse", os.O_RDWR)
    mount("silent", hung, "fuse", f"fd={fuse},rootmode=40000,user_id=0,group_id=0")
    mount("healthy", healthy, "tmpfs", "size=1m")
    print("ready", flush=True)
    for line in sys.stdin:
        if line == "answer\n":
            threading.Thread(target=serve, args=(fuse,), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
