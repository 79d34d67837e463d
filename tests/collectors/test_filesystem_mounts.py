"""The list of mounts: lines of mountinfo, and mounts that hide one another."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.collectors.mounts import Mount, mounts, parsed, visible

ROOT = "27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard"


def listed(tmp_path: Path, *lines: str) -> list[str]:
    """Devices of what is listed of these lines."""
    file = tmp_path / "mountinfo"
    file.write_text("\n".join(lines) + "\n")
    return [mount.device for mount in mounts(file)]


def test_a_line() -> None:
    assert parsed(ROOT) == [Mount("27", "1", "/dev/vda", "/", "ext4", readonly=False)]


@pytest.mark.parametrize(
    ("own", "of_filesystem", "readonly"),
    [("rw", "rw", False), ("ro,noatime", "rw", False), ("rw", "rw,errors=remount-ro", False), ("rw", "a,ro", True)],
)
def test_read_only_is_the_file_system_and_not_one_mount_of_it(own: str, of_filesystem: str, readonly: bool) -> None:
    (mount,) = parsed(f"1 0 0:1 / / {own} - ext4 /dev/x {of_filesystem}")

    assert mount.readonly is readonly


def test_any_number_of_optional_fields() -> None:
    for optional in ("", "shared:1 ", "shared:1 master:2 propagate_from:3 unbindable "):
        (mount,) = parsed(f"1 0 0:1 / /a rw {optional}- ext4 /dev/x rw")
        assert (mount.mountpoint, mount.device) == ("/a", "/dev/x")


def test_what_the_kernel_escapes_is_given_back() -> None:
    (mount,) = parsed(r"1 0 0:1 / /my\040disk\011\012\134\043 rw - fuse.x srv:/my\040share rw")

    assert mount.mountpoint == "/my disk\t\n\\#"
    assert mount.device == "srv:/my share"


def test_odd_characters_do_not_cut_a_line(tmp_path: Path) -> None:
    assert listed(tmp_path, ROOT, "28 27 0:1 / /a\u2028b\x85c rw - ext4 odd rw") == ["/dev/vda", "odd"]


@pytest.mark.parametrize("line", ["", "rubbish", "1 0 0:1 / /a rw - ext4", "1 0 0:1 - ext4 /dev/x rw", " - ", "- - -"])
def test_a_line_that_is_none_is_left_out(line: str, tmp_path: Path) -> None:
    assert listed(tmp_path, line, ROOT) == ["/dev/vda"]


# -- hidden -----------------------------------------------------------------------------------------------------


def test_a_mount_over_a_mount_hides_it_and_what_is_below(tmp_path: Path) -> None:
    assert listed(
        tmp_path,
        ROOT,
        "30 27 0:1 / /a rw - ext4 hidden rw",
        "31 30 0:2 / /a/b rw - ext4 hidden-too rw",
        "32 30 0:3 / /a rw - ext4 over rw",
        "33 32 0:4 / /a/c rw - ext4 seen rw",
    ) == ["/dev/vda", "over", "seen"]


def test_a_mount_over_a_folder_hides_what_is_mounted_in_it(tmp_path: Path) -> None:
    assert listed(
        tmp_path,
        ROOT,
        "31 27 0:2 / /a/b rw - ext4 hidden rw",
        "32 27 0:3 / /a rw - ext4 over rw",
        "33 27 0:3 / /ab rw - ext4 beside rw",
    ) == ["/dev/vda", "over", "beside"]


def test_the_first_root_is_hidden_by_the_one_that_was_switched_to(tmp_path: Path) -> None:
    # as with an initramfs: the first of all mounts is its own parent
    first = "1 1 0:1 / / rw - rootfs rootfs rw"

    assert listed(tmp_path, first, ROOT, "28 27 0:2 / /a rw - ext4 a rw") == ["/dev/vda", "a"]


def test_parents_in_a_circle_end(tmp_path: Path) -> None:
    assert listed(tmp_path, "5 6 0:1 / /a rw - ext4 a rw", "6 5 0:1 / /b rw - ext4 b rw") == ["a", "b"]


PLACES = ["/", "/a", "/ab", "/a/b", "/a/b/c", "/a/bc", "/b", "/b/a"]


def holds(mount: Mount, path: str) -> bool:
    return path == mount.mountpoint or path.startswith(mount.mountpoint.rstrip("/") + "/")


def seen(mount: Mount, listed: Sequence[Mount]) -> bool:
    """Whether nothing stands on the way to `mount`, by looking at each of `listed` at each step."""
    path, way = mount.mountpoint, [mount]
    while True:
        here = way[-1]
        if any(other.parent == here.id and other not in way and holds(other, path) for other in listed):
            return False
        above = [other for other in listed if other.id == here.parent]
        if not above or above[0] in way:
            return True
        path = here.mountpoint
        way += above


@given(st.lists(st.tuples(st.integers(0, 8), st.sampled_from(PLACES)), max_size=9))
def test_what_is_seen_of_any_tree_is_what_nothing_stands_before(rows: list[tuple[int, str]]) -> None:
    listed = [Mount(str(own), str(parent), "x", path, "ext4", False) for own, (parent, path) in enumerate(rows)]

    assert list(visible(listed)) == [mount for mount in listed if seen(mount, listed)]


def test_many_mounts_cost_little() -> None:
    # given one folder with the volumes of many pods
    listed = parsed(ROOT) + [Mount(f"p{n}", "27", "tmpfs", f"/pods/{n}/volume", "tmpfs", False) for n in range(5000)]

    began = time.monotonic()
    assert len(visible(listed)) == 5001

    assert time.monotonic() - began < 1  # about 0.02 s; to compare each with each other takes 5 s


def test_a_list_that_did_not_change_is_the_same_object_and_one_that_did_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mountinfo"
    file.write_text(ROOT + "\n")
    first = mounts(file)
    assert mounts(file) is first

    file.write_text(ROOT.replace("/dev/vda", "/dev/vdb") + "\n")

    assert [mount.device for mount in mounts(file)] == ["/dev/vdb"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_mounts_of_this_machine() -> None:
    found = mounts()

    assert "/" in [mount.mountpoint for mount in found]
    assert len({mount.mountpoint for mount in found}) == len(found)


def test_elsewhere_than_on_linux_psutil_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")

    found = mounts()

    assert found
    assert len({mount.id for mount in found}) == len(found)
