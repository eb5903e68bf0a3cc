"""On which file system a directory lies, by mountinfo's lines, and what is said of it."""

from __future__ import annotations

import pytest

from server.mounts import Mount, mount_of, warning

MOUNTINFO = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /proc rw,nosuid - proc proc rw
24 22 0:30 / /tmp rw - tmpfs tmpfs rw,size=1024k
25 22 0:31 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw,lowerdir=/l,upperdir=/u
26 22 0:32 / /mnt/two\040words rw - nfs4 server:/export rw
27 22 8:2 / /data rw master:1 propagate_from:2 - xfs /dev/sdb rw
28 27 0:33 / /data/over rw - tmpfs tmpfs rw
29 28 8:3 / /data/over rw - ext4 /dev/sdc rw
30 22 0:34 / /home/me/cloud rw - fuse.sshfs me@host:/ rw
a line that is none
"""


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        ("/srv/node1", Mount("/", "ext4")),
        ("/tmp", Mount("/tmp", "tmpfs")),
        ("/tmp/node1", Mount("/tmp", "tmpfs")),
        ("/tmpfiles/node1", Mount("/", "ext4")),
        ("/mnt/two words/node1", Mount("/mnt/two words", "nfs4")),
        ("/data/node1", Mount("/data", "xfs")),
        ("/data/over/node1", Mount("/data/over", "ext4")),  # the one that was mounted last hides the other
    ],
)
def test_the_mount_of_a_path(path, mount):
    assert mount_of(path, MOUNTINFO) == mount


def test_nothing_is_found_where_nothing_is_mounted():
    assert mount_of("/x", "") is None
    assert mount_of("/x", "1 2 3\n4 - 5\n") is None


@pytest.mark.parametrize(
    ("type_", "says"),
    [
        ("tmpfs", "memory: a power cut takes everything"),
        ("ramfs", "memory"),
        ("overlay", "container's layer"),
        ("nfs", "network file system"),
        ("nfs4", "network file system"),
        ("cifs", "network file system"),
        ("fuse.sshfs", "network file system"),
        ("9p", "network file system"),
        ("ext4", None),
        ("xfs", None),
        ("btrfs", None),
        ("zfs", None),
    ],
)
def test_what_is_said_of_a_file_system(tmp_path, type_, says):
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(f"22 1 8:1 / / rw - {type_} /dev/x rw\n")
    said = warning(str(tmp_path / "node1"), str(mountinfo))
    assert (said is None) if says is None else (said is not None and says in said and type_ in said)


def test_a_link_is_followed(tmp_path):
    (tmp_path / "memory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "memory")
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(f"1 1 8:1 / / rw - ext4 d rw\n2 1 0:1 / {tmp_path.resolve()}/memory rw - tmpfs t rw\n")
    assert warning(str(tmp_path / "link" / "node1"), str(mountinfo)) is not None
    assert warning(str(tmp_path / "other"), str(mountinfo)) is None


def test_without_mountinfo_nothing_is_said(tmp_path):
    assert warning("/x", str(tmp_path / "absent")) is None
