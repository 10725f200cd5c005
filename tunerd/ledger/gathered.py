"""Calls that are gathered from several documents: the groups to look at, and what a look at one comes to. Values only."""

from collections.abc import Sequence

from tunerd.call import Call, CutBy, Fragment, IgnoredDocument, RefusedDocument, State
from tunerd.ledger.admitting import AdmitVerdict, Matched
from tunerd.ledger.sending import FailedCall
from tunerd.record import record


@record
class PossibleGap:
    """Why a gathered call may lack a part."""

    by: CutBy
    place: str
    is_sure: bool
    """False while no document without a key of its own was read from the source: if all of them have one, nothing is missing."""


@record
class Group:
    """A gathered call that has to be looked at: documents of it came, or its wait is over."""

    row: int
    source: str
    key: str
    version: int
    """Changes with every document of the group, and with every change of `cut`."""
    state: State
    reason: str | None
    """Why it failed, if it did."""
    cut: PossibleGap | None
    """Set: it is not sent unless a person says so."""
    is_replaceable: bool
    """It has surely not arrived and no worker holds it: what its documents make now may take its place."""
    wait_ends_at: float
    """At this time it is mapped with the documents that are there."""
    kept: bytes | None
    """What it was mapped from before (Call.document, or that of a refusal)."""
    fragments: Sequence[Fragment]
    """The documents that came since."""


@record
class CheckAgain:
    """The group is not complete: look at it again at this time."""

    at: float


@record
class TooLate:
    """The call was sent before these documents came, and what it was made of is no longer known."""


@record
class Discard:
    """The group was left out, and its documents were kept for LEFT_OUT_KEPT_S without becoming a call: remove them."""


@record
class GroupResult:
    """What a look at a group came to."""

    row: int
    version: int
    """Of the Group that was looked at. If documents came since, the result is dropped and the group is looked at again."""
    result: Call | RefusedDocument | IgnoredDocument | CheckAgain | TooLate | Discard


@record
class Gathered:
    """How each result fared, in their order."""

    states: Sequence[tuple[AdmitVerdict, State] | None]
    """None: nothing changed but the time of the next look."""
    late: int = 0
    matched: Sequence[Matched] = ()
    failed: Sequence[FailedCall] = ()
