"""Lists and stories of calls, as commands and the status page ask for them. Bounded: at most 1,000 rows each."""

from collections.abc import Sequence
from typing import Final

from tunerd.call import AudioState, State
from tunerd.ledger import Filter, StoredCall, Story
from tunerd.ledger.audio_words import audio_words
from tunerd.ledger.commands.join import look
from tunerd.ledger.matching_words import waits_for
from tunerd.ledger.rows import LedgerRow
from tunerd.ledger.sql.calls import CALL
from tunerd.ledger.sql.store import Store

MOST_ROWS: Final = 1000


def calls(store: Store, where: Filter, after_row: int, limit: int, newest: bool) -> Sequence[StoredCall]:
    """See Inspection.calls."""
    terms, values = _terms(where)
    if after_row:
        terms.append("row < ?" if newest else "row > ?")
        values.append(after_row)
    condition = f"WHERE {' AND '.join(terms)} " if terms else ""
    sql = f"SELECT {CALL.listed} FROM call {condition}ORDER BY row {'DESC' if newest else 'ASC'} LIMIT ?"
    return [CALL.record(columns).shown() for columns in store.ask(sql, [*values, min(limit, MOST_ROWS)])]


def _terms(where: Filter) -> tuple[list[str], list[object]]:
    terms: list[str] = []
    values: list[object] = []
    if where.states:
        # Named in the text, so that the small indexes of single states can be used.
        states = [f"state = '{State(state)}'" for state in sorted(where.states)]
        terms.append(" OR ".join([*states, *(["audio = 'failed'"] if State.FAILED in where.states else [])]).join("()"))
    columns = (
        ("reason", where.reasons), ("source", where.sources), ("destination", where.destinations), ("call_id", where.call_ids)
    )  # fmt: skip
    for column, wanted in columns:
        if wanted:
            terms.append(f"{column} IN ({', '.join('?' * len(wanted))})")
            values += sorted(wanted)
    if where.call_ids:
        terms.append("(kind = 'call' OR (kind <> 'call' AND call_id IS NOT NULL))")
    if where.since is not None:
        terms.append("admitted_at >= ?")
        values.append(where.since)
    if where.dismissed is not None:
        terms.append("dismissed = ?")
        values.append(int(where.dismissed))
    return terms, values


def story(store: Store, call_id: str) -> Sequence[Story]:
    """See Inspection.story."""
    return [
        Story(
            call=row.shown(),
            origins=sorted({(path, offset) for _, _, path, offset in store.history.origins(row, MOST_ROWS)}),
            events=row.story(store.history.events(row)),
            waits_for=_waits_for(store, row),
            audio=audio_words(row, store.audios.get(row.row)) if row.audio is not AudioState.NONE else "",
        )
        for row in store.calls.named(call_id)[:MOST_ROWS]
    ]


def _waits_for(store: Store, row: LedgerRow) -> Sequence[str]:
    body, wants = store.bodies.get(row.row), store.wants.of(row.row)
    looks = body is not None and row.state in (State.WAITING, State.FAILED)
    offers = look(store, row, body.strategies, wants, 0.0) if looks and body is not None else {}
    return waits_for(row, body, wants, offers, store.checks.listed(row.row))
