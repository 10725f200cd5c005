"""Strategy `file:` of `recording:`, a recording on this machine. Each key is declared here once (settings.py). Pure."""

from typing import Annotated

from tunerd.config.settings import TEXT, Seconds, Setting
from tunerd.record import record
from tunerd.yaml_location import Node


@record
class FileRule:
    """A file on this machine, by its name."""

    file: Annotated[
        Node,
        Setting(
            "Expression over the call's document that gives the file's name, like concat(doc.id, '.wav'). `*` and `?` stand for "
            "other characters only in text of the expression itself, never in values of documents.",
            schema=TEXT,
        ),
    ]
    directory: Annotated[
        str | None,
        Setting("The directory that holds the files; by default the source's `path`.", name="in"),
    ] = None
    """Absolute. None: the source's path."""
    within_s: Annotated[
        Seconds | None,
        Setting(
            "How far the end of the call may be from the time at which the file was last written. Needed where the name is not "
            "made of the call's own id."
        ),
    ] = None
    wait_s: Annotated[
        Seconds,
        Setting(
            "How long the call may wait for its file. A file whose name has `*` or needs `within` is only taken after it, "
            "because another file or call may still come."
        ),
    ] = 30 * 60.0
    settle_s: Annotated[
        Seconds, Setting("How long a file must stay unchanged before it counts as finished.", low=0.1, high=3600.0)
    ] = 5.0
