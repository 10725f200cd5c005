"""Table url_check: URLs that are only sent once their host has given a byte of them (`verify: get`)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tunerd.ledger import UrlToCheck
from tunerd.ledger.rows import KeptUrlCheck
from tunerd.ledger.sql.columns import RecordColumns, from_text
from tunerd.ledger.sql.database import Execute
from tunerd.ledger.tally import Tally
from tunerd.location import host_of

URL_CHECK: Final = RecordColumns("url_check", KeptUrlCheck, key=("call", "location"))

OF_CALL: Final = f"SELECT {URL_CHECK.listed} FROM url_check WHERE call = ? ORDER BY location"
PUT: Final = URL_CHECK.upsert
DELETE: Final = "DELETE FROM url_check WHERE call = ? AND location = ?"
NEXT_HOST: Final = "SELECT host FROM url_check WHERE due_at IS NOT NULL AND host > ? ORDER BY host LIMIT 1"
_TO_CHECK: Final = (
    "SELECT c.row, c.source, c.call_id, c.path, u.location, u.host, u.since, u.due_at "
    "FROM url_check u JOIN call c ON c.row = u.call "
)
DUE: Final = (
    f"{_TO_CHECK}WHERE u.host = ? AND u.due_at IS NOT NULL AND u.due_at <= ? ORDER BY u.due_at, u.call, u.location LIMIT ?"
)
UNANSWERED: Final = f"{_TO_CHECK}WHERE u.host = ? AND u.answered = 0 ORDER BY u.call, u.location LIMIT ?"
COUNTS: Final = "SELECT count(*), coalesce(sum(1 - answered), 0) FROM url_check"
"""Only at a start."""
SHIFT: Final = "UPDATE url_check SET since = since + :seconds, asked_at = asked_at + :seconds, due_at = due_at + :seconds"


class UrlCheckTable:
    """Keeps the counts of the tally."""

    def __init__(self, ask: Execute, tally: Callable[[], Tally]) -> None:
        self._ask, self._tally = ask, tally

    def load(self) -> None:
        tally = self._tally()
        tally.url_checks, tally.unasked_urls = self._ask(COUNTS).fetchone()

    def of(self, call: int) -> Mapping[str, KeptUrlCheck]:
        """By location."""
        return {one.location: one for one in self.listed(call)} if self._tally().url_checks else {}

    def listed(self, call: int) -> Sequence[KeptUrlCheck]:
        """The same for a store that only answers questions, and has no tally."""
        return [URL_CHECK.record(columns) for columns in self._ask(OF_CALL, (call,))]

    def keep(self, call: int, locations: Sequence[str], now: float) -> None:
        """The call needs exactly these: those that are new are due now."""
        known = self.of(call)
        for location in dict.fromkeys(locations):
            if location not in known:
                host = ":".join(map(str, host_of(location)))
                self._ask(PUT, URL_CHECK.values(KeptUrlCheck(call=call, location=location, host=host, due_at=now)))
                self._tally().url_checks += 1
                self._tally().unasked_urls += 1
        for location, check in known.items():
            if location not in locations:
                self._ask(DELETE, (call, location))
                self._tally().url_checks -= 1
                self._tally().unasked_urls -= not check.answered

    def delete(self, call: int) -> None:
        self.keep(call, (), 0.0)

    def put(self, before: KeptUrlCheck, check: KeptUrlCheck) -> None:
        self._ask(PUT, URL_CHECK.values(check))
        self._tally().unasked_urls -= not before.answered

    def hosts(self, after: str, limit: int) -> Sequence[str]:
        """Each is found by one look into the index, however many URLs it has."""
        found: list[str] = []
        while len(found) < limit and (next_one := self._ask(NEXT_HOST, (found[-1] if found else after,)).fetchone()) is not None:
            found.append(next_one[0])
        return found

    def due(self, host: str, now: float, limit: int) -> Sequence[UrlToCheck]:
        return [_to_check(*columns) for columns in self._ask(DUE, (host, now, limit))]

    def unanswered(self, host: str, limit: int) -> Sequence[UrlToCheck]:
        return [_to_check(*columns) for columns in self._ask(UNANSWERED, (host, limit))]

    def shift(self, seconds: float) -> None:
        if self._tally().url_checks:
            self._ask(SHIFT, {"seconds": seconds})


def _to_check(
    row: int, source: str, call_id: str | None, path: str, url: str, host: str, since: float | None, due_at: float
) -> UrlToCheck:
    return UrlToCheck(
        row=row, source=source, call_id=call_id or "", path=from_text(path), url=url, host=host, since=since, due_at=due_at
    )
