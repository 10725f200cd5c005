"""Redaction of a mapped call: by field, by pattern, by detector, before anything of it is stored or sent. Pure.

This file decides what is looked at: texts of the rows with their words, tool params and results, the plain transcript, the
free-form objects; never ids, times, URLs, names of members and phone fields. What is found is detectors.py's matter.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from functools import lru_cache
from typing import Any, Final

import orjson

from tunerd.config import Redact
from tunerd.mapping.aligned import Hit, blank_words
from tunerd.mapping.detectors import DETECTORS, GONE, Span, is_card, may_hold_any, without_protected
from tunerd.mapping.fieldpaths import REDACTED, TEXTS, field_path, take_out
from tunerd.mapping.patterns import compile_redaction, find_all
from tunerd.record import record
from tunerd.tuner_fields import CALL_FIELDS, ROWS

FIELD_KIND: Final = "field"
"""How what `fields:` took out is counted."""
_SHORTTEXTS: Final = ("disconnection_reason", "call_status")
_OBJECTS: Final = ("collected_dynamic_variables", "call_analysis", "metadata", "general_meta_data_raw")
WINDOW: Final = 64 * 1024
"""Characters of a text that the detectors see at a time, so that no search holds up the whole process."""
MARGIN: Final = 512
"""They also see this many characters around a window, so that a hit over its end is found whole."""
_EDGE: Final = 64
"""How far from the ends of an area a hit is certain not to be cut."""
_ROUNDS: Final = 10
_KEPT_WORDS: Final = frozenset(
    {
        "id", "ids", "uuid", "guid", "sid", "ts", "time", "timestamp", "timestamps", "date", "at", "on", "ms", "us", "ns",
        "s", "sec", "seconds", "duration", "latency", "ttft", "ttfb", "offset", "epoch", "expires", "created", "updated",
    }
)  # fmt: skip
"""A member whose name ends in one of these words is an id or a time, if its value has the shape of one."""


@record
class Redacted:
    body_json: bytes
    """The payload without what was found; the very bytes that were given where nothing was."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Kind -> how often: a detector's name, a pattern's name, `field`."""
    places: Sequence[tuple[str, str]] = ()
    """Path and kind of each text that something was taken from; only where they were asked for."""


class Redaction:
    """The settings of one source, compiled. Safe to use from several threads at once."""

    def __init__(self, settings: Redact) -> None:
        """Raises ValueError for settings that config/ did not check."""
        self._patterns = [(name, compile_redaction(text)) for name, text in settings.patterns.items()]
        self._detectors = [(name, find) for name, find in DETECTORS.items() if name in settings.detect]
        self._cards = "card" in settings.detect
        self._fields = [field_path(text) for text in settings.fields]

    def apply(self, body_json: bytes, *, with_places: bool = False) -> Redacted:
        """`body_json`: a payload as payload.py builds it."""
        found = _Pass(self, with_places)
        body: dict[str, Any] = orjson.loads(body_json)
        for path in self._fields:
            found.count(FIELD_KIND, take_out(body, path), path.text)
        for name in TEXTS:
            if isinstance(body.get(name), str):
                body[name] = found.text(body[name], name)
        for name in _SHORTTEXTS:
            if isinstance(body.get(name), str):
                body[name] = body[name][: CALL_FIELDS[name].limit]
        for name in _OBJECTS:
            if name in body:
                found.inside(body[name], name)
        for number, row in enumerate(body[ROWS]):
            found.row(row, f"{ROWS}[{number}]" if with_places else "")
        if not found.counts:
            return Redacted(body_json=body_json)
        return Redacted(body_json=orjson.dumps(body), counts=dict(found.counts), places=found.places)

    def find(self, text: str) -> list[Hit]:
        """Everything to take out of one text, in order, none over another."""
        hits: list[Hit] = []
        seen = text
        for name, pattern in self._patterns:
            spans = list(find_all(pattern, seen))
            hits += [Hit(start, end, name) for start, end in spans]
            seen = _without(seen, spans)
        return sorted([*hits, *self.detect(seen)], key=_start)

    def detect(self, text: str) -> list[Hit]:
        """What the detectors alone find, by detector."""
        if not self._detectors or not may_hold_any(text):
            return []
        if len(text) <= WINDOW:
            return self._detect_in(text)
        hits: list[Hit] = []
        for at in range(0, len(text), WINDOW):
            begin = max(0, at - MARGIN)
            known = [(max(hit.start, begin) - begin, hit.end - begin) for hit in hits if hit.end > begin]
            part = _without(text[begin : at + WINDOW + MARGIN], sorted(known))
            found = [Hit(hit.start + begin, hit.end + begin, hit.kind) for hit in self._detect_in(part)]
            hits += [hit for hit in found if at <= hit.start < at + WINDOW]
        return hits

    def _detect_in(self, text: str) -> list[Hit]:
        hits: list[Hit] = []
        seen, areas = without_protected(text), [(0, len(text))]
        while areas:  # what is gone is a boundary, so that something else may come to light beside it
            gone: list[Span] = []
            for name, detect in self._detectors:
                spans = [span for area in areas for span in _found_in(seen, area, detect)]
                hits += [Hit(start, end, name) for start, end in spans]
                seen = _without(seen, spans)
                gone += spans
            areas = _around(gone, len(text))
        return hits

    def number(self, value: int) -> str | None:
        """What a whole number in a free-form object is: a card number, or the whole match of a pattern."""
        digits = str(value)
        for name, pattern in self._patterns:
            if pattern.whole(digits):
                return name
        return "card" if self._cards and len(digits) < 20 and value > 0 and is_card(digits) else None


class _Pass:
    """One call on its way through."""

    def __init__(self, redaction: Redaction, with_places: bool) -> None:
        self._redaction = redaction
        self._with_places = with_places
        self.counts: Counter[str] = Counter()
        self.places: list[tuple[str, str]] = []

    def count(self, kind: str, times: int, path: str) -> None:
        if times:
            self.counts[kind] += times
            if self._with_places:
                self.places.append((path, kind))

    def row(self, row: dict[str, Any], path: str) -> None:
        text, words = row.get("text"), row.get("words")
        if isinstance(words, list) and words:
            text = self._spoken(text if isinstance(text, str) else "", words, path)
            if text:
                row["text"] = text
        elif isinstance(text, str):
            row["text"] = self.text(text, f"{path}.text")
        tool, node = row.get("tool"), row.get("node")
        if isinstance(tool, dict):
            for name in ("params", "result"):
                self.inside(tool.get(name), f"{path}.tool.{name}")
            if isinstance(tool.get("error"), str):
                tool["error"] = self.text(tool["error"], f"{path}.tool.error")
        if isinstance(node, dict) and isinstance(node.get("reason"), str):
            node["reason"] = self.text(node["reason"], f"{path}.node.reason")
        self.inside(row.get("metadata"), f"{path}.metadata")

    def _spoken(self, text: str, words: list[dict[str, Any]], path: str) -> str:
        hits = self._redaction.find(text)
        more, blanked = blank_words(words, text, hits, self._redaction.find)
        hits = _told_apart([*hits, *more])
        taken = Counter(hit.kind for hit in hits)
        for _ in range(_ROUNDS):
            if not hits and not blanked:
                return text
            for kind in taken | Counter(blanked):
                self.count(kind, taken[kind] or 1, f"{path}.text" if taken[kind] else f"{path}.words")
            text = _replaced(text, hits)  # and once more, as each took something out of the other
            hits = sorted(self._redaction.detect(text), key=_start)
            more, blanked = blank_words(words, text, hits, self._redaction.detect)
            hits = _told_apart([*hits, *more])
            taken = Counter(hit.kind for hit in hits)
        for word in words:  # each round found more: nothing of the row is kept
            word["word"] = REDACTED
        return REDACTED

    def text(self, text: str, path: str) -> str:
        hits = self._redaction.find(text)
        if not hits:
            return text
        for hit in hits:
            self.count(hit.kind, 1, path)
        return _replaced(text, hits)

    def inside(self, value: Any, path: str, name: str = "") -> None:
        """A free-form object or list, changed in place; the names of its members stay. `name`: of the list's member."""
        members: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for at, item in list(members):
            called = at if isinstance(at, str) else name
            if isinstance(item, str):
                if not _is_id_or_time(called, item):
                    value[at] = self.text(item, self._below(path, at))
            elif isinstance(item, dict | list):
                self.inside(item, self._below(path, at), called)
            elif isinstance(item, int) and not isinstance(item, bool) and not _is_id_or_time(called, "0"):
                kind = self._redaction.number(item)
                if kind is not None:
                    self.count(kind, 1, self._below(path, at))
                    value[at] = f"[{kind}]"

    def _below(self, path: str, name: str | int) -> str:
        if not self._with_places:
            return ""
        return f"{path}[{name}]" if isinstance(name, int) else f"{path}.{name}"


def _start(hit: Hit) -> int:
    return hit.start


def _without(text: str, spans: Sequence[Span]) -> str:
    parts, at = [], 0
    for start, end in spans:
        parts += [text[at:start], GONE * (end - start)]
        at = end
    return "".join([*parts, text[at:]]) if spans else text


def _found_in(text: str, area: Span, detect: Callable[[str], Iterator[Span]]) -> Iterator[Span]:
    """What lies in the area; not what its ends may have cut."""
    begin, end = area
    for start, stop in detect(text[begin:end]):
        if (begin == 0 or start >= _EDGE) and (end == len(text) or stop <= end - begin - _EDGE):
            yield begin + start, begin + stop


def _around(spans: Sequence[Span], length: int) -> list[Span]:
    """What is near these, in order and apart."""
    areas: list[Span] = []
    for start, end in sorted(spans):
        begin, stop = max(0, start - MARGIN), min(length, end + MARGIN)
        if areas and begin <= areas[-1][1]:
            areas[-1] = (areas[-1][0], max(stop, areas[-1][1]))
        else:
            areas.append((begin, stop))
    return areas


def _replaced(text: str, hits: Sequence[Hit]) -> str:
    parts, at = [], 0
    for hit in hits:
        parts += [text[at : hit.start], f"[{hit.kind}]"]
        at = hit.end
    return "".join([*parts, text[at:]])


def _told_apart(hits: Sequence[Hit]) -> list[Hit]:
    """In order, those that lie over another one in one with it."""
    apart: list[Hit] = []
    for hit in sorted(hits, key=_start):
        if apart and hit.start < apart[-1].end:
            apart[-1] = Hit(apart[-1].start, max(apart[-1].end, hit.end), apart[-1].kind)
        else:
            apart.append(hit)
    return apart


def _is_id_or_time(name: str, value: str) -> bool:
    """By the member's name and the value's shape: `order_id: 4929...`, `startedAt: 1767225600000`; an address or a number
    with a plus is none, whatever it is called."""
    if _last_word(name) not in _KEPT_WORDS:
        return False
    return value.replace("-", "").replace("_", "").isalnum() and value.isascii() and not _is_iban(value)


def _is_iban(value: str) -> bool:
    return any(True for _ in DETECTORS["iban"](value))


@lru_cache(maxsize=4096)
def _last_word(name: str) -> str:
    """`orderId`, `order_id` and `order-id` end in `id`."""
    end = len(name)
    for at in range(end - 1, -1, -1):
        if not name[at].isalnum():
            return name[at + 1 :].lower()
        if at and name[at].isupper() and not name[at - 1].isupper():
            return name[at:].lower()
    return name.lower()
