"""File systems against statvfs(2)."""

from __future__ import annotations

import os
from types import SimpleNamespace

import psutil
import pytest

from exporter.collectors.filesystem import Filesystem
from exporter.sources import checked

Labels = tuple[str, str, str]


def collected() -> dict[Labels, tuple[float, float]]:
    """Size and free bytes by device, mount point and type."""
    collector = Filesystem()
    size, avail = checked(collector.collect(), collector.families)
    free = {tuple(sample.labels.values()): sample.value for sample in avail.samples}
    found: dict[Labels, tuple[float, float]] = {}
    for sample in size.samples:
        device, mountpoint, fstype = sample.labels.values()
        found[device, mountpoint, fstype] = sample.value, free[device, mountpoint, fstype]
    assert free.keys() == found.keys()
    return found


def mount(mountpoint: str, device: str = "/dev/x", fstype: str = "ext4") -> SimpleNamespace:
    return SimpleNamespace(device=device, mountpoint=mountpoint, fstype=fstype)


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """What the machine has mounted, for the collector."""
    listed: list[SimpleNamespace] = []
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: listed)
    return listed


def test_size_and_free_bytes_are_the_kernels(mounts: list[SimpleNamespace], tmp_path: os.PathLike[str]) -> None:
    where = os.fspath(tmp_path)
    mounts.append(mount(where))
    real = os.statvfs(where)

    size, avail = collected()["/dev/x", where, "ext4"]

    assert size == real.f_blocks * real.f_frsize
    assert 0 <= avail <= size
    assert avail == pytest.approx(real.f_bavail * real.f_frsize, rel=0.2)


def test_mounts_of_this_machine_are_well_formed() -> None:
    for (device, mountpoint, fstype), (size, avail) in collected().items():
        assert device
        assert mountpoint.startswith("/")
        assert fstype not in {"squashfs", "overlay"}
        assert size >= avail >= 0


@pytest.mark.parametrize("fstype", ["squashfs", "iso9660", "overlay", "nsfs", "autofs"])
def test_images_and_the_kernels_own_are_left_out(fstype: str, mounts: list[SimpleNamespace]) -> None:
    mounts.append(mount("/", fstype=fstype))

    assert collected() == {}


def test_what_cannot_be_seen_is_absent_and_the_rest_is_there(mounts: list[SimpleNamespace]) -> None:
    mounts += [mount("/no/such/place"), mount("/")]

    assert [mountpoint for _, mountpoint, _ in collected()] == ["/"]


def test_a_mount_over_a_mount_is_one_series(mounts: list[SimpleNamespace]) -> None:
    mounts += [mount("/"), mount("/")]

    assert len(collected()) == 1


def test_hostile_names_are_cleaned(mounts: list[SimpleNamespace], tmp_path: os.PathLike[str]) -> None:
    hostile = os.path.join(tmp_path, "a\nb\udcff")
    os.mkdir(hostile)
    mounts.append(mount(hostile, device="\x1b[31m"))

    ((device, mountpoint, _),) = collected()

    assert device.isprintable()
    assert mountpoint.isprintable()
    assert len(mountpoint.encode()) <= 128
