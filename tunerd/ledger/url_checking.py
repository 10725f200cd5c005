"""URLs that are only sent once their host has given a byte of them (`verify: get`): what delivery and the ledger exchange."""

from collections.abc import Sequence
from dataclasses import field
from typing import Protocol

from tunerd.ledger.admitting import Matched
from tunerd.ledger.sending import FailedCall
from tunerd.record import record


@record
class UrlToCheck:
    """A URL whose host is to be asked now."""

    row: int
    source: str
    call_id: str
    path: str
    """Of the document of its call."""
    url: str = field(repr=False)
    since: float | None
    """When the first answer for it came."""
    due_at: float
    is_new: bool
    """Nobody has asked for it yet."""


@record
class CheckedUrl:
    """What came of it."""

    row: int
    url: str = field(repr=False)
    again_at: float | None
    """When to ask again; None: it is there."""
    detail: str = ""
    """Why it is not there yet, without anything of the URL but its host."""
    was_asked: bool = True
    """Its host was asked for this URL. Otherwise it is only known that the host does not answer now, and the URL is put off."""


class UrlCheckPath(Protocol):
    """Calls wait (`waiting`) until their URL is there, or was absent for as long as they say: from the first answer for it to one
    that comes when that time is over."""

    async def urls_to_check(self, now: float, after: UrlToCheck | None, limit: int) -> Sequence[UrlToCheck]:
        """URLs that are due, in the order of their times, after this one. Raises LedgerUnavailable."""
        ...

    async def urls_checked(self, answers: Sequence[CheckedUrl], now: float) -> Sequence[Matched | FailedCall]:
        """Keep what came of it, and decide the calls anew whose URL is there. Gives those that have their recording now, or
        failed. Raises LedgerUnavailable."""
        ...
