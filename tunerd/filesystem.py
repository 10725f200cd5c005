"""Whether a ledger may lie on a file system: locks and shared memory of SQLite's WAL do not work on network mounts."""

import os
from pathlib import Path
from typing import Final

_NETWORK: Final = frozenset(
    [
        *("nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "9p", "afs", "ceph", "lustre", "glusterfs"),
        *("gfs2", "ocfs2", "beegfs", "gpfs", "davfs", "sshfs", "s3fs"),
    ]
)
_FUSE_NETWORK: Final = (
    "sshfs",
    "s3fs",
    "gcsfuse",
    "gcs",
    "blobfuse",
    "blobfuse2",
    "glusterfs",
    "rclone",
    "davfs",
    "goofys",
    "cephfs",
)


def kind_of(path: Path, mountinfo: str | None = None) -> str:
    """The type of the file system that holds `path` (which need not exist yet); "" where that is not known."""
    if mountinfo is None:
        try:
            mountinfo = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        except OSError:
            return ""
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in mountinfo.splitlines():
        front, _, back = line.partition(" - ")
        fields = front.split()
        if len(fields) < 5 or not back:
            continue
        mount = fields[4].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):  # of two mounts at one place the later one counts
            best, kind = mount, back.split()[0]
    return kind


def is_network(kind: str) -> bool:
    if kind.startswith("fuse."):
        return kind.removeprefix("fuse.") in _FUSE_NETWORK
    return kind in _NETWORK


def forgets(kind: str) -> bool:
    """A file system whose files are gone after a restart: allowed, but worth a warning."""
    return kind in ("tmpfs", "ramfs")
