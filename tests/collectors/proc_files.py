"""A /proc of files, as some kernel might have it, and the host's collector that reads it."""

from __future__ import annotations

from pathlib import Path

from exporter.collectors.host import Host
from exporter.sources import checked
from tests.servers import Series, series

STAT = """cpu  60 0 0 0 0 0 0 0 0 0
cpu0 1000 200 300 4000 50 6 7 8 900 100
cpu3 10 20 30 40 50 60 70 80 0 0
intr 33 1 2 3
ctxt 77
btime 1700000000
processes 12
procs_running 2
procs_blocked 1
softirq 9 1 2
"""
MEMINFO = """MemTotal:        1000 kB
MemFree:          100 kB
MemAvailable:     400 kB
Buffers:            5 kB
Cached:            60 kB
SwapCached:         9 kB
SwapTotal:        300 kB
SwapFree:         200 kB
Dirty:              8 kB
Writeback:          3 kB
Shmem:             20 kB
KReclaimable:      12 kB
SReclaimable:      11 kB
WritebackTmp:       1 kB
CommitLimit:      800 kB
Committed_AS:      70 kB
ShmemHugePages:     2 kB
HugePages_Total:    3
"""
DISKSTATS = """   8       0 sda 1 2 3 4000 5 6 7 8000 9 10000 11000 12 13 14 15 16 17000
   8       1 sda1 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17
 253       0 dm-0 1 2 3 4000 5 6 7 8000 9 10000 11000
"""
NET_DEV = """Inter-| Receive                                              | Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:     1       2    3    4    0     0          0         0     5       6    7    8    0     0       0          0
  eth0:123456789012345 1 2 3 0 0 0 0 4 5 6 7 0 0 0 0
"""
FILES = {
    "stat": STAT,
    "loadavg": "0.25 1.50 2.00 1/500 12345\n",
    "meminfo": MEMINFO,
    "vmstat": "nr_free_pages 7\npgmajfault 4\npswpin 5\npswpout 6\noom_kill 2\n",
    "sys/fs/file-nr": "640\t0\t1000000\n",
    "pressure/cpu": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 total=9\n",
    "pressure/memory": "some avg10=0.00 total=2500000\nfull avg10=0.00 total=500000\n",
    "pressure/io": "some avg10=0.00 total=3000000\nfull avg10=0.00 total=1000000\n",
    "diskstats": DISKSTATS,
    "net/dev": NET_DEV,
}


class Machine:
    """A /proc of files, and the collector that reads it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.host = Host(proc=directory)
        for name, text in FILES.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))

    def remove(self, name: str) -> None:
        (self.directory / name).unlink()

    def look(self) -> dict[Series, float]:
        families = checked(self.host.collect(), self.host.families)
        return {series(s.name, **s.labels): s.value for family in families for s in family.samples}
