"""Which disks an instance of a fleet reads. Pure; the ledger is opened with it, and asks nobody else.

Two machines have the same paths, and perhaps the same inodes. So what the ledger knows of a file belongs to the instance and the
volume that it was read from. Where one process owns the ledger none of this matters.
"""

from collections.abc import Mapping
from dataclasses import field

from tunerd.record import record


@record
class Disks:
    volumes: Mapping[str, str] = field(default_factory=dict)
    """Of each source what tells its directory from another one at the same path (tunerd/volume.py). A source that is missing
    here has the volume ""."""
    shared: frozenset[str] = frozenset()
    """Sources whose directory every instance sees (`shared: true`). One instance reads them at a time, and any can open their
    files."""
