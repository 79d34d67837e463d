"""File systems against statvfs(2), and which of them are shown."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pytest

from exporter import catalogue as c
from exporter.collectors.filesystem import Filesystem, FilesystemOptions
from exporter.collectors.mounts import Mount
from exporter.collectors.prober import Prober
from exporter.sources import checked

Labels = tuple[str, ...]
SIZES = (
    c.HOST_FILESYSTEM_SIZE,
    c.HOST_FILESYSTEM_FREE,
    c.HOST_FILESYSTEM_AVAIL,
    c.HOST_FILESYSTEM_FILES,
    c.HOST_FILESYSTEM_FILES_FREE,
    c.HOST_FILESYSTEM_READONLY,
)


def mount(mountpoint: str, device: str = "/dev/x", fstype: str = "ext4", readonly: bool = False) -> Mount:
    return Mount("1", "0", device, mountpoint, fstype, readonly)


def filesystem(
    *mounts: Mount, options: FilesystemOptions | None = None, statvfs: Callable[[bytes], os.statvfs_result] = os.statvfs
) -> Filesystem:
    return Filesystem(options, lambda: list(mounts), Prober(statvfs))


def look(collector: Filesystem) -> dict[str, dict[Labels, float]]:
    """Values by family and labels."""
    return {
        f"{metric.name}": {tuple(sample.labels.values()): sample.value for sample in metric.samples}
        for metric in checked(collector.collect(), collector.families)
    }


def shown(mounts: Iterable[Mount], options: FilesystemOptions | None = None) -> list[str]:
    return [labels[1] for labels in look(filesystem(*mounts, options=options))[c.HOST_FILESYSTEM_ERROR.name]]


def test_every_number_is_the_kernels(tmp_path: Path) -> None:
    where, real = os.fspath(tmp_path), os.statvfs(tmp_path)
    collector = filesystem(mount(where))

    found = look(collector)

    values = {name: by_labels["/dev/x", where, "ext4"] for name, by_labels in found.items()}
    assert values[c.HOST_FILESYSTEM_SIZE.name] == real.f_blocks * real.f_frsize
    assert values[c.HOST_FILESYSTEM_FREE.name] == pytest.approx(real.f_bfree * real.f_frsize, rel=0.2)
    assert values[c.HOST_FILESYSTEM_AVAIL.name] == pytest.approx(real.f_bavail * real.f_frsize, rel=0.2)
    assert values[c.HOST_FILESYSTEM_FILES.name] == real.f_files
    assert values[c.HOST_FILESYSTEM_FILES_FREE.name] == pytest.approx(real.f_ffree, rel=0.2)
    assert values[c.HOST_FILESYSTEM_READONLY.name] == 0
    assert values[c.HOST_FILESYSTEM_ERROR.name] == 0
    assert list(collector.problems) == []


def test_each_number_is_that_of_its_field_and_blocks_are_counted_in_fragments() -> None:
    # f_bsize, f_frsize, f_blocks, f_bfree, f_bavail, f_files, f_ffree, f_favail, f_flag, f_namemax
    usage = os.statvfs_result((1_048_576, 512, 1000, 300, 200, 50, 40, 30, 7, 255))

    found = look(filesystem(mount("/x"), statvfs=lambda path: usage))

    assert {name: by_labels["/dev/x", "/x", "ext4"] for name, by_labels in found.items()} == {
        "taskqueue_host_filesystem_size_bytes": 512_000,
        "taskqueue_host_filesystem_free_bytes": 153_600,
        "taskqueue_host_filesystem_avail_bytes": 102_400,
        "taskqueue_host_filesystem_files": 50,
        "taskqueue_host_filesystem_files_free": 40,
        "taskqueue_host_filesystem_readonly": 0,
        "taskqueue_host_filesystem_device_error": 0,
    }


def test_a_list_that_changed_is_looked_at_anew() -> None:
    lists = [[mount("/a")], [mount("/a"), mount("/b")]]
    collector = Filesystem(None, lambda: lists[0], Prober(lambda path: os.statvfs("/")))

    def shown() -> list[str]:
        return [labels[1] for labels in look(collector)[c.HOST_FILESYSTEM_ERROR.name]]

    assert [shown(), shown()] == [["/a"], ["/a"]]
    del lists[0]
    assert shown() == ["/a", "/b"]


def test_read_only_is_told() -> None:
    found = look(filesystem(mount("/", readonly=True)))

    assert list(found[c.HOST_FILESYSTEM_READONLY.name].values()) == [1]


def test_mounts_of_this_machine_are_well_formed() -> None:
    collector = Filesystem()
    found = look(collector)

    assert found[c.HOST_FILESYSTEM_SIZE.name]
    for (device, mountpoint, fstype), size in found[c.HOST_FILESYSTEM_SIZE.name].items():
        assert device
        assert mountpoint.startswith("/")
        assert fstype not in {"squashfs", "overlay", "proc"}
        assert size >= found[c.HOST_FILESYSTEM_AVAIL.name][device, mountpoint, fstype] >= 0


@pytest.mark.parametrize("fstype", ["squashfs", "iso9660", "overlay", "nsfs", "autofs", "cgroup", "cgroup2", "proc"])
def test_images_and_the_kernels_own_are_left_out(fstype: str) -> None:
    assert shown([mount("/", fstype=fstype), mount("/tmp", fstype=f"{fstype}x")]) == ["/tmp"]


@pytest.mark.parametrize("mountpoint", ["/dev", "/dev/shm", "/proc/x", "/sys", "/var/lib/docker/volumes/a"])
def test_mount_points_of_the_kernel_and_of_runtimes_are_left_out(mountpoint: str) -> None:
    assert shown([mount(mountpoint), mount("/development"), mount("/var/lib/docker")]) == [
        "/development",
        "/var/lib/docker",
    ]


def test_an_empty_expression_leaves_nothing_out() -> None:
    mounts = [mount("/proc", fstype="proc"), mount("/tmp", fstype="tmpfs")]

    assert shown(mounts, FilesystemOptions(mount_points_exclude="", fs_types_exclude="")) == ["/proc", "/tmp"]
    assert shown(mounts, FilesystemOptions(mount_points_exclude="", fs_types_exclude="^tmp")) == ["/proc"]
    assert shown(mounts, FilesystemOptions(mount_points_exclude="m", fs_types_exclude="")) == ["/proc"]


@pytest.mark.parametrize("key", ["mount_points_exclude", "fs_types_exclude"])
def test_a_bad_expression_is_told_in_the_configurations_terms(key: str) -> None:
    with pytest.raises(ValueError, match=rf"^{key}: found '\*' \(.*\), wanted a regular expression$"):
        msgspec.convert({key: "*"}, FilesystemOptions)


# -- what goes wrong --------------------------------------------------------------------------------------------


def failing(number: int) -> Callable[[bytes], os.statvfs_result]:
    def statvfs(path: bytes) -> os.statvfs_result:
        if path == b"/bad":
            raise OSError(number, os.strerror(number), path)
        return os.statvfs("/")

    return statvfs


def assert_only_the_bad_one_lacks_sizes(found: dict[str, dict[Labels, float]]) -> None:
    bad, good = ("/dev/x", "/bad", "ext4"), ("/dev/x", "/", "ext4")
    assert found[c.HOST_FILESYSTEM_ERROR.name] == {bad: 1, good: 0}
    assert all(found[family.name].keys() == {good} for family in SIZES)


def test_what_fails_has_an_error_and_no_size_and_the_rest_is_there() -> None:
    collector = filesystem(mount("/bad"), mount("/"), statvfs=failing(errno.ENOTCONN))

    assert_only_the_bad_one_lacks_sizes(look(collector))
    assert list(collector.problems) == [f"/bad: {os.strerror(errno.ENOTCONN)}"]


def test_what_is_not_ours_to_see_has_an_error_and_is_no_problem() -> None:
    collector = filesystem(mount("/bad"), mount("/"), statvfs=failing(errno.EACCES))

    assert_only_the_bad_one_lacks_sizes(look(collector))
    assert list(collector.problems) == []


def test_a_path_that_cannot_be_one_is_a_problem_of_its_own() -> None:
    collector = filesystem(mount("/a\0b"), mount("/"))

    assert sorted(look(collector)[c.HOST_FILESYSTEM_ERROR.name].values()) == [0, 1]
    (problem,) = collector.problems
    assert "embedded null" in problem


def test_a_problem_that_has_gone_is_told_no_more() -> None:
    usage = os.statvfs("/")
    failures = [OSError(errno.EIO, "Input/output error")]

    def statvfs(path: bytes) -> os.statvfs_result:
        if failures:
            raise failures.pop()
        return usage

    collector = filesystem(mount("/bad"), statvfs=statvfs)
    look(collector)
    assert list(collector.problems) == ["/bad: Input/output error"]

    look(collector)

    assert not collector.problems


# -- names ------------------------------------------------------------------------------------------------------


def test_the_same_thing_mounted_twice_is_one_series() -> None:
    assert shown([mount("/"), mount("/")]) == ["/"]


def test_hostile_names_are_cleaned_and_the_right_path_is_asked(tmp_path: Path) -> None:
    hostile = os.path.join(tmp_path, "a\nb\udcff")
    os.mkdir(hostile)
    collector = filesystem(mount(hostile, device="\x1b[31m"))

    ((device, mountpoint, _),) = look(collector)[c.HOST_FILESYSTEM_SIZE.name]

    assert device.isprintable()
    assert mountpoint.isprintable()
    assert len(mountpoint.encode()) <= 128


def test_a_problem_is_one_line() -> None:
    collector = filesystem(mount("/no/such\nplace"))

    look(collector)

    (problem,) = collector.problems
    assert problem.isprintable()
