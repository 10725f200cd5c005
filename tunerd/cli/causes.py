"""Failed calls grouped by what they have in common: the source, the reason, and the words of the reason without what differs
from call to call (ids, numbers, paths). Pure.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tunerd.admin.answer_types import CallRow

EXAMPLES: Final = 3
"""Calls of a cause that are named."""
_OWN: Final = re.compile(r"""'[^']*'|"[^"]*"|\S*[\d/]\S*""")
"""What differs from call to call: quoted text, and words that contain a digit or a slash."""

_Key: TypeAlias = tuple[str, str | None, int | None, str, str]


@dataclass(slots=True, kw_only=True)
class Cause:
    """Calls that failed in the same way."""

    newest: CallRow
    count: int = 0
    newest_at: float
    oldest_at: float
    examples: list[CallRow] = field(default_factory=list)
    """The newest ones, at most EXAMPLES."""
    has_places: bool = False
    """Whether one of them is a part of a file: a line of a log, an element of a list."""


class Causes:
    """Takes failed calls one by one, newest first."""

    def __init__(self) -> None:
        self._causes: dict[_Key, Cause] = {}
        self._alike: dict[tuple[str, str | None], int] = {}

    def add(self, call: CallRow) -> None:
        key = (call.source, call.reason, call.http_status, _common(call.where), _common(call.detail))
        cause = self._causes.get(key)
        if cause is None:
            cause = self._causes[key] = Cause(newest=call, newest_at=call.admitted_at, oldest_at=call.admitted_at)
        cause.count += 1
        cause.newest_at = max(cause.newest_at, call.admitted_at)
        cause.oldest_at = min(cause.oldest_at, call.admitted_at)
        cause.has_places = cause.has_places or bool(call.offset)
        if len(cause.examples) < EXAMPLES:
            cause.examples.append(call)
        alike = (call.source, call.reason)
        self._alike[alike] = self._alike.get(alike, 0) + 1

    def largest_first(self) -> Sequence[Cause]:
        """Equally large ones: the newest first."""
        return sorted(self._causes.values(), key=lambda cause: -cause.count)

    def others(self, cause: Cause) -> int:
        """Calls of other causes with the same source and reason: options that select the one select them, too."""
        return self._alike[cause.newest.source, cause.newest.reason] - cause.count


def _common(text: str) -> str:
    return _OWN.sub("#", text)
