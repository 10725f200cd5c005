"""Envelopes: what a webhook relay, a queue or a workflow tool puts around a platform's document, and the documents inside. Pure.

Only shapes are known here. Which of the documents inside is meant, the rules of a preset say (source.py).
"""

from collections.abc import Iterator
from typing import Any, Final

import orjson

_MEMBERS: Final = ("body", "data", "payload", "event", "message", "json", "detail", "record", "request", "content")
"""Under these names, in any case, an envelope holds the document: n8n, Pipedream, EventBridge, SQS, CloudEvents, Kafka, ..."""
_DEPTH: Final = 4
_MOST: Final = 40
"""Values looked at: an envelope is small, whatever it holds."""


def inside(value: Any) -> Iterator[Any]:
    """The objects that may be the document inside `value`, outer ones first; not `value` itself. A list of one object
    counts as that object, and text that is JSON as its value."""
    level: list[Any] = [value]
    seen = 0
    for _ in range(_DEPTH):
        found: list[Any] = []
        for outer in level:
            for inner in _members(outer):
                seen += 1
                if seen > _MOST:
                    return
                yield inner
                found.append(inner)
        level = found


def _members(outer: Any) -> Iterator[Any]:
    if isinstance(outer, list):
        if (only := _object(outer)) is not None:
            yield only
        return
    if not isinstance(outer, dict):
        return
    by_name = {name.lower(): member for name, member in outer.items() if isinstance(name, str) and len(name) < 10}
    for name in _MEMBERS:
        if (inner := _object(by_name.get(name))) is not None:
            yield inner


def _object(value: Any) -> dict[str, Any] | None:
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, dict) else None
