"""Runs the tables of docs/recordings.md: calls and recordings go into a ledger, and the tests check what becomes of them.

A block `yaml strategies` applies to the tables after it. A table has the columns `at`, `what comes` and `then`.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.docs.examples import compiled
from tests.docs.fences import ROOT
from tunerd.call import Call, Document, Form, Origin, Recording, State
from tunerd.ledger import Admission, Delivered, Filter, Unfrozen
from tunerd.mapping.match_values import match_text
from tunerd.testing import MemoryLedger

_CALL: Final = "call:\n  call_id: doc.id\n  start_timestamp: doc.started\n  end_timestamp: null\n  duration_ms: 1000\n"
_EGRESS: Final = """\
  - name: egress
    path: /egress
    manifest: {key: doc.key, match: {caller: doc.caller}, url: doc.url, started_at: doc.started, duration_ms: doc.seconds}
"""
_MIDNIGHT: Final = 1_782_864_000.0
_DAY_S: Final = 86_400.0
_PART: Final = re.compile(
    r"^```yaml strategies\n(.*?)^```$|^\| at \| what comes \| then \|\n\|[-|]+\n((?:\|[^\n]*\n)+)", re.MULTILINE | re.DOTALL
)
_ROW: Final = re.compile(r"\| *(?:day (\d+) )?(\d\d:\d\d(?::\d\d)?) \| *(?:(call|recording)(?: (\w+))? `(.*)`)? *\| *(.*?) *\|$")


@dataclass(frozen=True, slots=True)
class Line:
    at: float
    kind: str
    """`call`, `recording`, or empty if only time passes."""
    name: str
    fields: dict[str, object]
    then: tuple[str, ...]
    where: str


@dataclass(frozen=True, slots=True)
class Table:
    where: str
    strategies: str
    lines: tuple[Line, ...]

    def __str__(self) -> str:
        return self.where


def tables(page: Path) -> Iterator[Table]:
    text, strategies = page.read_text(), ""
    for found in _PART.finditer(text):
        if found[1] is not None:
            strategies = found[1]
            continue
        first = text.count("\n", 0, found.start(2)) + 1
        name = str(page.relative_to(ROOT))
        rows = [_line(row, f"{name}:{first + n}") for n, row in enumerate(found[2].splitlines())]
        yield Table(f"{name}:{first}", strategies, tuple(rows))


def _line(row: str, where: str) -> Line:
    found = _ROW.match(row)
    if found is None:
        raise ValueError(f"{where}: not a line of a story: {row}")
    day, at, kind, name, fields, then = found.groups()
    told = tuple(part.strip() for part in then.split(",") if part.strip())
    return Line(_instant(at) + int(day or 0) * _DAY_S, kind or "", name or "", json.loads(fields or "{}"), told, where)


def _instant(clock: str) -> float:
    hours, minutes, seconds = (*map(int, clock.split(":")), 0)[:3]
    return _MIDNIGHT + hours * 3600 + minutes * 60 + seconds


class Story:
    """A ledger that receives the lines of one table."""

    def __init__(self, strategies: str) -> None:
        self._ledger = MemoryLedger()
        self._mapping = compiled(_CALL + strategies, Form.CREATE_CALL, _EGRESS)
        self._number = 0

    async def happens(self, line: Line) -> dict[str, str]:
        """Apply the line; return the state of every call that is not settled, such as `A` -> `waits`."""
        self._number += 1
        if line.kind == "call":
            await self._ledger.admit(Admission(calls=[self._call(line)]), line.at)
        elif line.kind == "recording":
            await self._ledger.admit(Admission(recordings=[self._recording(line)]), line.at)
        await self._ledger.tick(line.at)
        told = await self._sent(line.at)
        for row in await self._ledger.calls(Filter(states=frozenset({State.WAITING, State.FAILED, State.DUE})), limit=100):
            words = {State.WAITING: "waits", State.FAILED: f"failed ({row.reason})", State.DUE: "is due"}
            told[row.call_id or ""] = words[row.state]
        return told

    async def _sent(self, now: float) -> dict[str, str]:
        told: dict[str, str] = {}
        while (claim := await self._ledger.claim("api.usetuner.ai/42", Form.CREATE_CALL, _body, now)).claimed is not None:
            claimed = claim.claimed
            told[claimed.call_id] = f"goes out with {claimed.body.decode().rpartition('/')[2]}"
            await self._ledger.settle(claimed.row, Delivered(status=201, tuner_call_id=None, already_there=False), now)
        return told

    def _call(self, line: Line) -> Call:
        value: dict[str, object] = {**line.fields, "id": line.name}
        value |= {name: _instant(str(line.fields[name])) for name in ("started", "until") if name in line.fields}
        raw = json.dumps(value).encode()
        origin = Origin(source="agent", path=f"/calls/{line.name}.json", length=len(raw), mtime_ns=self._number)
        mapped = self._mapping.map(Document(origin=origin, raw=raw, value=json.loads(raw), settled_at=line.at))
        assert mapped.call is not None, mapped.refused
        return mapped.call

    def _recording(self, line: Line) -> Recording:
        fields = line.fields
        return Recording(
            origin=Origin(source="egress", path=f"/egress/{self._number}.json", mtime_ns=self._number),
            source="egress",
            key=str(fields.get("key", "")),
            match=match_text(["caller"], fields) or "",
            location=None if fields.get("absent") else str(fields["url"]),
            started_at=_instant(str(fields["started"])),
            duration_s=float(str(fields["seconds"])) if "seconds" in fields else None,
        )


def _body(unfrozen: Unfrozen) -> bytes:
    return unfrozen.recording_url.encode()
