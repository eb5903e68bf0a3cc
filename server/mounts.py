"""On what kind of file system a directory lies, and what that means for a node's promises.

    36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue       a line of /proc/self/mountinfo
    (1)(2)(3)   (4)   (5)      (6)      (7)   (8) (9)   (10)         (11)                 5: where, 9: its type (proc(5))

A node's acknowledgement says: this is on a disk, and a crash leaves it there. tmpfs forgets everything at a power cut. An
overlay's upper layer goes with its container. On a network file system, fsync means what the server makes of it, locks may
be nobody's, and other machines may write to the same files.

It is a warning and no refusal: tests and demonstrations run on tmpfs, and some network file systems are sound. Where there
is no mountinfo, nothing is said. Left out: disks whose cache lies about being written; no file tells of them.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

__all__ = ["Mount", "mount_of", "warning"]

_OCTAL = re.compile(r"\\([0-7]{3})")  # a space in a path is \040
_MEMORY = frozenset({"tmpfs", "ramfs"})
_NETWORK = frozenset(
    [
        "9p",
        "afs",
        "afp",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "davfs",
        "fuse.cephfs",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gfs2",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "smb3",
        "smbfs",
        "vboxsf",
    ]
)


class Mount(NamedTuple):
    """A mounted file system: where it is, and of which type."""

    point: str
    type: str


def mount_of(path: str, mountinfo: str) -> Mount | None:
    """The mount that an absolute path without links lies in: the longest point before it, and of those the last one."""
    found = None
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        words, types = fields.split(" "), rest.split(" ")
        if len(words) < 6 or not types[0]:
            continue
        point = _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), words[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and (found is None or len(point) >= len(found.point)):
            found = Mount(point, types[0])
    return found


def warning(path: str, mountinfo_path: str = "/proc/self/mountinfo") -> str | None:
    """What is to be said about a data directory's place; None if nothing is, or nobody knows. The path needn't exist."""
    try:
        with open(mountinfo_path, encoding="utf-8", errors="surrogateescape") as file:
            mount = mount_of(os.path.realpath(path), file.read())
    except OSError:
        return None
    if mount is None:
        return None
    where = f"{path} is on {mount.type} ({mount.point})"
    if mount.type in _MEMORY:
        return f"{where}, which is memory: a power cut takes everything that this node has acknowledged"
    if mount.type == "overlay":
        return f"{where}, a container's layer: what this node has acknowledged goes with the container; mount a volume"
    if mount.type in _NETWORK:
        return f"{where}, a network file system: whether an fsync and a lock hold there is the server's to say"
    return None
