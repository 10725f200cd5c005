"""What is known of the files of one source: their names, what was read of them, which are due, which are open."""

import os

from tunerd.audio.spool import AudioSpool
from tunerd.config import Source
from tunerd.intake.descriptors import DescriptorLimit
from tunerd.intake.due_queue import DueQueue
from tunerd.intake.file_index import GONE_KEPT, FileIndex
from tunerd.intake.followed_logs import FollowedLogs
from tunerd.intake.names import Names
from tunerd.intake.removal import target_directory
from tunerd.record import record
from tunerd.source_tree import SourceTree


@record
class SourceFiles:
    root: str
    """Absolute."""
    tree: SourceTree
    names: Names
    index: FileIndex
    due: DueQueue
    followed: FollowedLogs
    spool: AudioSpool | None
    """Of a source whose documents hold audio."""

    @classmethod
    def of(
        cls, source: Source, descriptors: DescriptorLimit, spool: AudioSpool | None = None, gone_kept: int = GONE_KEPT
    ) -> "SourceFiles":
        root, target = os.path.abspath(source.path), target_directory(source)
        return cls(
            root=root,
            tree=SourceTree(root),
            names=Names(source, os.path.relpath(target, root) if target is not None else None),
            index=FileIndex(root, gone_kept),
            due=DueQueue(),
            followed=FollowedLogs(descriptors),
            spool=spool if source.holds_audio else None,
        )
