"""Tables body and frozen: what a call was read from, what is sent, and which of it may be removed.

Bodies are apart from the rows, so that claims, lists and retention never read them.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from tunerd.call import (
    AfterUpload,
    AudioPlan,
    Choice,
    Fail,
    Form,
    Hold,
    ManifestStrategy,
    OnMissing,
    Publish,
    SendAnyway,
    Strategy,
    UrlStrategy,
)
from tunerd.ledger.rows import Body
from tunerd.ledger.sql import meta
from tunerd.ledger.sql.columns import from_text, to_text
from tunerd.ledger.sql.database import Execute

BODY: Final = ("row", "checked_for", "matching", "head", "payload", "document")
"""Of table body, as `body_values` writes them."""
BODY_OF: Final = "SELECT checked_for, matching, head, payload, document FROM body WHERE row = ?"
MATCHING: Final = "SELECT matching FROM body WHERE row = ?"
PAYLOAD: Final = "SELECT payload, checked_for FROM body WHERE row = ?"
DOCUMENT: Final = "SELECT document FROM body WHERE row = ?"
NEWEST_SENT: Final = (
    "SELECT row FROM call WHERE state = 'sent' AND state IN ('sent', 'failed', 'ignored') "
    "ORDER BY changed_at DESC, row DESC LIMIT ?"
)
"""At a start: the sent calls that still have their bodies."""
SWEEP: Final = (
    "DELETE FROM body WHERE row IN (SELECT row FROM call WHERE state = 'sent' AND state IN ('sent', 'failed', 'ignored'))"
)
"""In a fleet that keeps none: what instances left that are gone. Walks all sent calls."""
DELETE_BODY: Final = "DELETE FROM body WHERE row = ?"
FROZEN: Final = "SELECT body FROM frozen WHERE row = ?"
KEEP_FROZEN: Final = "INSERT INTO frozen (row, body) VALUES (?, ?) ON CONFLICT (row) DO UPDATE SET body = excluded.body"
DELETE_FROZEN: Final = "DELETE FROM frozen WHERE row = ?"

FORMS: Final[Mapping[str | None, Form | None]] = {None: None} | {form.value: form for form in Form}
_REMOVE_AT_ONCE: Final = 32
_SWEEP_EVERY_S: Final = 3600.0
_BODIES_KEPT: Final = "bodies_kept"


class Bodies:
    """`ask` runs a statement after what the transaction has changed is written; `execute` does not need that. `remove` takes a
    body away in the write buffer."""

    def __init__(self, ask: Execute, execute: Execute, remove: Callable[[int], None]) -> None:
        self._ask = ask
        self._execute = execute
        self.remove = remove
        self.kept = 200
        """How many sent calls keep their bodies."""
        self._swept_at = -math.inf
        self._sent: deque[int] = deque()
        """Sent calls that have a body, oldest first."""
        self._payloads: dict[int, tuple[bytes | None, Form | None]] = {}
        """Of rows that were just picked or admitted: nothing has to be read, or written, for them."""

    def load(self) -> None:
        self.kept = meta.number(self._execute, _BODIES_KEPT, 200)
        self._sent = deque(row for (row,) in reversed(self._execute(NEWEST_SENT, (self.kept,)).fetchall()))

    def snapshot(self) -> tuple[int, deque[int]]:
        return self.kept, self._sent.copy()

    def restore(self, before: tuple[int, deque[int]]) -> None:
        self.kept, self._sent = before

    def get(self, row: int) -> Body | None:
        columns = self._ask(BODY_OF, (row,)).fetchone()
        return None if columns is None else _body_of(columns)

    def matching(self, row: int) -> tuple[tuple[Strategy, ...], OnMissing, float | None] | None:
        """The call's strategies, `on_missing` and how long its URL may be absent (Call.verify_s), without reading documents."""
        columns = self._ask(MATCHING, (row,)).fetchone()
        if columns is None:
            return None
        strategies, on_missing, _, verify_s = matching_of(columns[0])
        return strategies, on_missing, verify_s

    def audio_plan(self, row: int) -> AudioPlan | None:
        """How the call's audio reaches Tuner, without reading documents."""
        columns = self._ask(MATCHING, (row,)).fetchone()
        return None if columns is None else matching_of(columns[0])[2]

    def document(self, row: int) -> bytes | None:
        found = self._ask(DOCUMENT, (row,)).fetchone()
        return None if found is None else found[0]

    def payload(self, row: int) -> tuple[bytes | None, Form | None]:
        """The payload and the form it was checked for, without reading the document."""
        known = self._payloads.pop(row, None)
        if known is not None:
            return known
        columns = self._ask(PAYLOAD, (row,)).fetchone()
        return (None, None) if columns is None else (columns[0], FORMS[columns[1]])

    def payload_is(self, row: int, payload: bytes | None, checked_for: Form | None) -> None:
        """Tell the next `payload` of this row what it is."""
        self._payloads[row] = (payload, checked_for)

    def forget_payloads(self) -> None:
        self._payloads.clear()

    # Which bodies are kept.

    def note_sent(self, row: int) -> None:
        """The call is sent: its body is removed when it is no longer among the newest that are kept."""
        self._sent.append(row)
        self._remove_old()

    def keep(self, count: int) -> None:
        """How many bodies of sent calls to keep."""
        if count != self.kept:
            self.kept = count
            self._execute(meta.SET, (_BODIES_KEPT, count))
            self._remove_old()

    def _remove_old(self) -> None:
        """Some at a time, where many are kept."""
        if len(self._sent) > self.kept + min(_REMOVE_AT_ONCE, self.kept // 8):
            while len(self._sent) > self.kept:
                self.remove(self._sent.popleft())

    def sweep(self, now: float) -> None:
        """Remove the bodies of all sent calls, now and then."""
        if now - self._swept_at >= _SWEEP_EVERY_S:
            self._swept_at = now
            self._ask(SWEEP)

    # Frozen bodies that are kept whole, since a delta of the payload would save nothing.

    def keep_frozen(self, row: int, body: bytes) -> None:
        self._execute(KEEP_FROZEN, (row, body))

    def frozen(self, row: int) -> bytes | None:
        found = self._execute(FROZEN, (row,)).fetchone()
        return None if found is None else bytes(found[0])

    def drop_frozen(self, row: int) -> None:
        self._execute(DELETE_FROZEN, (row,))

    def delete(self, row: int) -> None:
        self._ask(DELETE_BODY, (row,))
        self._execute(DELETE_FROZEN, (row,))


def body_values(row: int, body: Body) -> Sequence[object]:
    checked_for = None if body.checked_for is None else str(body.checked_for)
    return (row, checked_for, _matching_text(body), body.head, body.payload, body.document)


def _body_of(columns: Sequence[Any]) -> Body:
    checked_for, matching, head, payload, document = columns
    strategies, on_missing, audio, verify_s = matching_of(matching)
    return Body(
        document=document,
        payload=payload,
        head=head,
        strategies=strategies,
        on_missing=on_missing,
        audio=audio,
        verify_s=verify_s,
        checked_for=FORMS[checked_for],
    )


def _matching_text(body: Body) -> str:
    """Strategies and `on_missing` as JSON lists, each with its kind first; and the plan for the audio and `verify_s`, if there
    are any."""
    parts: list[object] = [[_strategy_list(s) for s in body.strategies], _on_missing_list(body.on_missing)]
    if body.audio is not None or body.verify_s is not None:
        parts.append(None if body.audio is None else _plan_list(body.audio))
    if body.verify_s is not None:
        parts.append(body.verify_s)
    return orjson.dumps(parts).decode()


def _strategy_list(strategy: Strategy) -> list[object]:
    if isinstance(strategy, UrlStrategy):
        return ["url", strategy.location, strategy.expires_at]
    return ["manifest", strategy.source, strategy.key, strategy.within_s, strategy.wait_s, strategy.near_s, strategy.choice.value]


def _on_missing_list(on_missing: OnMissing) -> list[object]:
    match on_missing:
        case Hold():
            return ["hold", on_missing.hold_s]
        case Fail():
            return ["fail"]
        case SendAnyway():
            return ["send", on_missing.url]


def plan_text(plan: AudioPlan) -> str:
    return orjson.dumps(_plan_list(plan)).decode()


def plan_of(text: str) -> AudioPlan:
    """Of `plan_text`."""
    return _plan_of(orjson.loads(text))


def _plan_list(audio: AudioPlan) -> list[object]:
    files = [to_text(directory) for directory in audio.files]
    return [audio.publish, audio.placeholder, audio.sends_on_error, audio.expires_s, files, audio.after_upload,
            to_text(audio.move_to), audio.url_rule]  # fmt: skip


def matching_of(text: str) -> tuple[tuple[Strategy, ...], OnMissing, AudioPlan | None, float | None]:
    strategies, on_missing, *rest = orjson.loads(text)
    plan = _plan_of(rest[0]) if rest and rest[0] is not None else None
    verify_s = float(rest[1]) if len(rest) > 1 else None
    return tuple(map(_strategy_of, strategies)), _on_missing_of(on_missing), plan, verify_s


def _strategy_of(items: Sequence[Any]) -> Strategy:
    if items[0] == "url":
        return UrlStrategy(location=items[1], expires_at=items[2])
    return ManifestStrategy(source=items[1], key=items[2], within_s=items[3], wait_s=items[4], near_s=items[5],
                            choice=Choice(items[6]))  # fmt: skip


def _plan_of(items: Sequence[Any]) -> AudioPlan:
    publish, placeholder, sends_on_error, expires_s, files, after_upload, move_to, url_rule = items
    return AudioPlan(
        publish=Publish(publish),
        placeholder=placeholder,
        sends_on_error=sends_on_error,
        expires_s=expires_s,
        files=tuple(map(from_text, files)),
        after_upload=AfterUpload(after_upload),
        move_to=from_text(move_to),
        url_rule=url_rule,
    )


def _on_missing_of(items: Sequence[Any]) -> OnMissing:
    if items[0] == "hold":
        return Hold(hold_s=items[1])
    return Fail() if items[0] == "fail" else SendAnyway(url=items[1])
