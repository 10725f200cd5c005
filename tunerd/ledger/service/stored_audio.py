"""The part of StoredLedger that is about audio (AudioPath, UrlCheckPath), and how all of its commands are given to the writer."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from tunerd.ledger import AudioEnded, AudioUpload, CheckedUrl, FailedCall, Leftover, Matched, PendingAudio, UrlToCheck
from tunerd.ledger.commands import audio_life, check_urls
from tunerd.ledger.service.jobs import AcceptsJobs, AnswersQuestions, Job
from tunerd.ledger.sql.store import Store

T = TypeVar("T")


class StoredAudio:
    _writer: AcceptsJobs
    _reader: AnswersQuestions

    # Jobs.

    async def _do(self, run: Callable[[Store], T], *, full: bool = False, rows: int = 1, size: int = 0) -> T:
        job = Job(run=run, future=asyncio.get_running_loop().create_future(), full=full, rows=rows, size=size)
        return await self._writer.submit(job)

    def _submit_patient(self, run: Callable[[Store], T], row: int | None = None, *, full: bool = False) -> "asyncio.Future[T]":
        """Queued when this returns, and tried again until it is committed. `row`: the claim that this ends."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        return self._writer.submit(Job(run=run, future=future, patient=True, row=row, full=full))

    async def _do_patiently(self, run: Callable[[Store], T]) -> T:
        """As `_do`, and tried again until it is committed."""
        job = Job(run=run, future=asyncio.get_running_loop().create_future(), patient=True)
        return await self._writer.submit(job)

    async def _alone(self, run: Callable[[Store], T]) -> T:
        job = Job(run=run, future=asyncio.get_running_loop().create_future(), alone=True)
        return await self._writer.submit(job)

    # AudioPath.

    async def next_audio(
        self, destination: str, now: float, busy: Collection[int], not_agents: Collection[str], first: int | None = None
    ) -> tuple[PendingAudio | None, float | None]:
        return await self._do(lambda store: audio_life.next_pending(store, destination, now, busy, not_agents, first))

    async def unseen_audio(self, after_row: int, limit: int) -> Sequence[PendingAudio]:
        return await self._do(lambda store: audio_life.unseen(store, after_row, limit))

    def audio_seen(self, row: int, location: str, identity: str) -> Awaitable[str | None]:
        return self._submit_patient(lambda store: audio_life.seen(store, row, location, identity))

    def audio_later(self, row: int, due_at: float, detail: str) -> Awaitable[None]:
        return self._submit_patient(lambda store: audio_life.postpone(store, row, due_at, detail))

    def audio_unusable(self, row: int, ended: AudioEnded, now: float) -> "asyncio.Future[FailedCall | None]":
        return self._submit_patient(lambda store: audio_life.unusable(store, row, ended, now))

    async def open_uploads(self) -> Sequence[AudioUpload]:
        return await self._do(audio_life.uploads)

    async def upload(self, row: int) -> AudioUpload | None:
        return await self._do_patiently(lambda store: audio_life.upload_of(store, row))

    def upload_tried(self, row: int, detail: str) -> Awaitable[None]:
        return self._submit_patient(lambda store: audio_life.tried(store, row, detail))

    def upload_ended(self, row: int, ended: AudioEnded | None, now: float) -> Awaitable[None]:
        return self._submit_patient(lambda store: audio_life.end(store, row, ended, now), full=True)

    async def leftovers(self) -> Sequence[Leftover]:
        return await self._do(audio_life.leftovers)

    def leftover_done(self, row: int) -> Awaitable[None]:
        return self._submit_patient(lambda store: audio_life.cleared(store, row))

    async def audio_limit(self, destination: str) -> int | None:
        return await self._do(lambda store: store.audios.max_bytes(destination))

    # UrlCheckPath.

    async def hosts_to_check(self, after: str, limit: int) -> Sequence[str]:
        return await self._reader.ask(lambda store: store.checks.hosts(after, limit))

    async def urls_to_check(self, host: str, now: float, limit: int) -> Sequence[UrlToCheck]:
        return await self._reader.ask(lambda store: store.checks.due(host, now, limit))

    async def unanswered_urls(self, host: str, limit: int) -> Sequence[UrlToCheck]:
        return await self._reader.ask(lambda store: store.checks.unanswered(host, limit))

    async def urls_checked(self, answers: Sequence[CheckedUrl], now: float) -> Sequence[Matched | FailedCall]:
        return await self._do(lambda store: check_urls.checked(store, answers, now), rows=len(answers))
