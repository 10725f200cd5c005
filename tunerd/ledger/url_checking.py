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
    host: str
    """With its port."""
    since: float | None
    """When the first answer for it came; None: there was none yet."""
    due_at: float


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
    """Its host was asked for this URL. Otherwise it is only known that the host does not answer now, and the URL stays due."""


class UrlCheckPath(Protocol):
    """Calls wait (`waiting`) until their URL is there, or was absent for as long as they say: from the first answer for it to one
    that comes when that time is over."""

    async def hosts_to_check(self, after: str, limit: int) -> Sequence[str]:
        """Hosts of which URLs are asked for, now or later, in the order of their names: those after this one. Raises
        LedgerUnavailable."""
        ...

    async def urls_to_check(self, host: str, now: float, limit: int) -> Sequence[UrlToCheck]:
        """URLs of this host that are due, in the order of their times. Raises LedgerUnavailable."""
        ...

    async def unanswered_urls(self, host: str, limit: int) -> Sequence[UrlToCheck]:
        """URLs of this host of which nothing is known yet (Gauges.unasked_urls counts them). Raises LedgerUnavailable."""
        ...

    async def urls_checked(self, answers: Sequence[CheckedUrl], now: float) -> Sequence[Matched | FailedCall]:
        """Keep what came of it, and decide the calls anew whose URL is there. Gives those that have their recording now, or
        failed. Raises LedgerUnavailable."""
        ...
