"""Which files `after_sent` may take: commits name candidates, and what they cannot name is looked through, a part at a time."""

from collections.abc import Collection, Container, Sequence
from itertools import islice
from typing import Final

from tunerd.ledger import FileMark
from tunerd.ledger.service.jobs import AnswersQuestions

_REMEMBERED: Final = 2000
"""Candidates of a source; beyond that all of its files are looked through."""


class DisposableFiles:
    def __init__(self, reader: AnswersQuestions) -> None:
        self._reader = reader
        self._candidates: dict[str, dict[str, None]] = {}
        self._look_from: dict[str, str | None] = {}
        """The path after which to look on through a source's files; None: all were looked at."""
        self._overflowed: set[str] = set()

    def note(self, files: Collection[tuple[str, str]]) -> None:
        """A commit may have made these (source, path) disposable."""
        for source, path in files:
            candidates = self._candidates.setdefault(source, {})
            if len(candidates) < _REMEMBERED:
                candidates[path] = None
            else:
                self._overflowed.add(source)

    def look_again(self) -> None:
        """Something else than a commit of this process may have made files disposable: all are looked through once more."""
        self._look_from = {source: "" if after is None else after for source, after in self._look_from.items()}

    def forget(self, source: str, path: str) -> None:
        self._candidates.get(source, {}).pop(path, None)

    async def find(self, source: str, limit: int, to_the_end: bool, leave: Container[str]) -> Sequence[FileMark]:
        """See Positions.disposable; nothing is synced here."""
        found = {mark.path: mark for mark in await self._among_candidates(source, limit, leave)}
        if len(found) < limit:
            found |= {mark.path: mark for mark in await self._look_through(source, limit - len(found), leave)}
        while to_the_end and not found and self._look_from[source] is not None:
            found = {mark.path: mark for mark in await self._look_through(source, limit, leave)}
        return list(found.values())

    async def _among_candidates(self, source: str, limit: int, leave: Container[str]) -> Sequence[FileMark]:
        candidates = self._candidates.get(source, {})
        paths = list(islice((path for path in candidates if path not in leave), limit))
        for path in paths:
            del candidates[path]
        marks = await self._reader.ask(lambda store: store.files.disposable_among(source, paths)) if paths else ()
        for mark in marks:
            candidates[mark.path] = None  # until it is disposed
        return marks

    async def _look_through(self, source: str, limit: int, leave: Container[str]) -> Sequence[FileMark]:
        """After a start, and after an overflow."""
        if source in self._overflowed and self._look_from.get(source) is None:
            self._overflowed.discard(source)
            self._look_from[source] = ""
        after = self._look_from.setdefault(source, "")
        if after is None:
            return ()
        marks, self._look_from[source] = await self._reader.ask(lambda store: store.files.disposable_after(source, after, limit))
        for mark in marks:
            self._candidates.setdefault(source, {})[mark.path] = None
        return [mark for mark in marks if mark.path not in leave]
