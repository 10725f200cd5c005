"""What a look at a file found. Values only: inspection.py makes them, file_reader.py acts on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tunerd.intake.document_maker import Read
from tunerd.intake.log_identity import LookUp, SameFile
from tunerd.ledger import FileMark
from tunerd.record import positional_record


@positional_record
class Unchanged:
    """Gone, or as it was when it was read."""


@positional_record
class NotRegular:
    """Not a regular file of the directory."""

    why: str


@positional_record
class Compare:
    """A whole file was read at this path, and its stat is no proof that this is it: ask the ledger for its mark, and then
    `compare`."""


@positional_record
class Recognized:
    """The file that was read: it had vanished, or it was given another owner, linked, copied over itself, restored."""

    mark: FileMark
    """By which it is known from now on."""


@positional_record
class LeftOut:
    """A file that `ignore_older` leaves out, and still does."""

    signature: int


@positional_record
class Later:
    """Not settled, or not complete: look again in `seconds`."""

    seconds: float
    first: int = 0
    """The log of this number has to be read before."""
    is_busy: bool = False
    """Somebody else is reading it."""


@positional_record
class Working:
    """A turn is over, and nothing came of it yet: ask for `more`."""


@positional_record
class Large:
    """There is a lot to read: take a turn among the large ones, then ask for the batches."""


@dataclass(slots=True)
class Batch:
    documents: Sequence[Read]
    mark: FileMark | None
    """Becomes durable with these documents; None while more of a whole file follows."""
    first: bool
    last: bool
    later_s: float | None = None
    """Look again then: something behind the last document is not complete."""
    refused_tail: int | None = None
    """The unfinished last line was refused at this signature."""
    continues: FileMark | None = None
    """The mark of the log from which reading continues."""
    same_log: str | None = None
    """Of a log's first batch: the path it had when its offset was stored, where it surely is that log."""
    noise: int = 0
    """Lines of it that were left out as no JSON (`not_json: ignore`)."""


Look: TypeAlias = (
    Unchanged | NotRegular | Compare | Recognized | LeftOut | Later | Large | Working | LookUp | SameFile | Batch
)  # fmt: skip
