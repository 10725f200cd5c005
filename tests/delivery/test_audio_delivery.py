"""Calls whose audio is uploaded with them: real files, the real sandbox as Tuner and its storage, a ledger in memory, a fake clock."""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from tests.audio.made import unfinished_wav, wav
from tests.delivery.made import SENT, Rig, delivering, destination, scripted
from tests.hanging_mount import hanging, needs_hanging_mount
from tunerd.audio.directory_threads import ANSWER_S, DirectoryThreads
from tunerd.audio.local_place import LocalPlace
from tunerd.audio.object_place import ObjectPlace
from tunerd.audio_events import AudioFailed, AudioNotDisposed, AudioRetried, AudioUploaded, DirectoryAnswers, DirectoryHangs
from tunerd.call import AfterUpload, AudioPlan, AudioState, Publish, State, UrlStrategy
from tunerd.clock import SystemClock
from tunerd.config import Delivery as Settings
from tunerd.config import Destination, Secret
from tunerd.delivery.audio_delivery import DISPOSE_AGAIN_S
from tunerd.delivery.audio_upload import StorageUploader
from tunerd.delivery.audio_worker import SLOTS
from tunerd.delivery.key import Key
from tunerd.delivery.ports import AudioTools
from tunerd.delivery.upload import Uploader, open_session
from tunerd.events import CallFailed, CallSent, PauseBegan, PauseEnded
from tunerd.ledger import Admission, Filter, StoredCall
from tunerd.location import LocationKind, file_location
from tunerd.mapping.forms import freeze_body
from tunerd.outcome import AudioReason
from tunerd.sandbox.faults import DeclineTarget, Faults, FixedAnswer, HoldAnswer, LoseAnswer, LoseTarget, Reset
from tunerd.sandbox.server import Sandbox
from tunerd.testing import FakeClock, MemoryLedger, make_call

KEY = "tr_api_audio"


@dataclass
class Stage:
    """What a test acts on."""

    rig: Rig
    tuner: Sandbox
    directory: Path
    clock: FakeClock
    session: aiohttp.ClientSession

    def record(self, name: str, content: bytes | None = None, *, age_s: float = 100.0) -> Path:
        """A file of audio that was written so long ago. It is there with its time at once: a thread may look at any moment."""
        written = self.directory.parent / f"{name}.written"
        written.write_bytes(wav(seconds=0.5) if content is None else content)
        os.utime(written, (self.clock.now() - age_s,) * 2)
        return written.replace(self.directory / name)

    async def call(self, call_id: str, path: Path | str, **plan: Any) -> None:
        """`path`: of a file, or the text of another location."""
        own = replace(AudioPlan(publish=Publish.UPLOAD, files=(str(self.directory),)), **plan)
        location = path if isinstance(path, str) else file_location(str(path)).text
        call = make_call(call_id, strategies=(UrlStrategy(location=location),), audio=own)
        await self.rig.ledger.admit(Admission(calls=[call]), self.clock.now())

    async def stored(self, call_id: str) -> StoredCall:
        (found,) = await self.rig.ledger.calls(Filter(call_ids=frozenset({call_id}), dismissed=None))
        return found

    def arrived(self, call_id: str) -> Sequence[str]:
        """Hashes of what the storage took of the call's audio."""
        return [one.sha256 for one in self.tuner.storage.stored.get(call_id, ())]

    async def pass_until(self, kind: type, count: int = 1, step_s: float = 5.0) -> list[Any]:
        """Let time pass until `count` facts of this kind were emitted."""
        for _ in range(400):
            if len(found := self.rig.told.seen(kind)) >= count:
                return found
            await self.clock.advance(step_s)
        raise AssertionError(f"no {kind.__name__} came: {self.rig.told.events[:20]}")


@asynccontextmanager
async def staged(
    tmp_path: Path,
    faults: Faults | None = None,
    *,
    key: str = KEY,
    ledger: MemoryLedger | None = None,
    clock: FakeClock | None = None,
    answer_s: float = ANSWER_S,
    **settings: Any,
) -> AsyncIterator[Stage]:
    """`ledger` and `clock`: those of the stage before a restart."""
    clock, directory = clock or FakeClock(time.time()), tmp_path / "rec"  # the storage signs by the real time
    directory.mkdir(exist_ok=True)
    async with Sandbox(faults=faults) as tuner, open_session() as session, open_session() as storage:

        def connect(destination: Destination, key: Key, settings: Settings) -> Uploader:
            return Uploader(session, destination, key, settings, clock, {})

        places = {
            LocationKind.FILE: LocalPlace(DirectoryThreads(clock, lambda event: rig.told(event), answer_s)),
            LocationKind.OBJECT: ObjectPlace(clock),
        }
        tools = AudioTools(places=places, upload=StorageUploader(storage, {}, SystemClock()))
        there = [destination(tuner.url, api_key=Secret(key))]
        async with delivering(
            connect, destinations=there, clock=clock, ledger=ledger, freeze=freeze_body, audio=tools, **settings
        ) as rig:
            yield Stage(rig, tuner, directory, clock, storage)


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def body(stage: Stage) -> dict[str, Any]:
    return dict(orjson.loads(stage.tuner.received[-1].body))


async def test_the_call_goes_out_and_its_audio_arrives_byte_for_byte(tmp_path: Path) -> None:
    """The body asks for a target with the extension and the two channels; the file is streamed there, and nothing is left open."""
    async with staged(tmp_path) as stage:
        path = stage.record("a.wav", wav(channels=2, seconds=3.0))
        await stage.call("a", path)
        (uploaded,) = await stage.rig.told.until(AudioUploaded)
        assert stage.arrived("a") == [sha(path)]
        sent = body(stage)
        assert (sent["recording_url"], sent["recording_file_extension"], sent["recording_s3_multi_channel"]) == (
            "pending",
            "wav",
            True,
        )
        assert uploaded.size == path.stat().st_size
        call = await stage.stored("a")
        assert (call.state, call.audio) == (State.SENT, AudioState.UPLOADED)
        assert path.exists()
        assert stage.rig.delivery.idle()


async def test_calls_without_audio_do_not_wait_for_uploads(tmp_path: Path) -> None:
    """While every slot holds an upload, another call is sent."""
    async with staged(tmp_path) as stage:
        release = HoldAnswer(asyncio.Event())
        for number in range(6):
            stage.tuner.storage.plan(release, call_id=f"c{number}")
            await stage.call(f"c{number}", stage.record(f"{number}.wav"))
        await stage.tuner.wait_for(lambda _: stage.tuner.storage.begun == 4)
        await stage.rig.admit("plain")
        sent = await stage.rig.told.until(CallSent, 5)
        assert "plain" in {one.call_id for one in sent}
        assert sum(one.call_id != "plain" for one in sent) == 4  # no target waits for a slot
        release.release.set()
        await stage.rig.told.until(AudioUploaded, 6)


async def test_a_storage_that_fails_pauses_nothing_and_is_tried_again(tmp_path: Path) -> None:
    """403 and 503 of the storage say nothing about Tuner; the target is used until it works."""
    async with staged(tmp_path) as stage:
        for status in (403, 503):
            stage.tuner.storage.plan(FixedAnswer(status), call_id="a")
        path = stage.record("a.wav")
        await stage.call("a", path)
        retried = await stage.pass_until(AudioRetried, 2)
        assert [one.detail for one in retried] == ["the storage answered 403", "the storage answered 503"]
        await stage.pass_until(AudioUploaded)
        assert stage.arrived("a") == [sha(path)]
        assert not stage.rig.told.seen(PauseBegan)
        assert len(stage.tuner.received) == 1


async def test_an_upload_that_never_works_ends_with_its_target(tmp_path: Path) -> None:
    """The call is sent; its audio is failed(upload_expired), and is listed."""
    async with staged(tmp_path, Faults(fail_uploads={"503": 1.0})) as stage:
        await stage.call("a", stage.record("a.wav"))
        (failed,) = await stage.pass_until(AudioFailed, step_s=30.0)
        assert failed.reason is AudioReason.UPLOAD_EXPIRED
        call = await stage.stored("a")
        assert (call.state, call.audio, call.reason) == (State.SENT, AudioState.FAILED, "upload_expired")


@pytest.mark.parametrize(
    ("plan", "reason"), [(LoseTarget(), AudioReason.UPLOAD_TARGET_LOST), (DeclineTarget(), AudioReason.UPLOAD_NOT_OFFERED)]
)
async def test_a_call_without_a_target_is_sent_and_its_audio_listed(tmp_path: Path, plan: Any, reason: AudioReason) -> None:
    """Tuner names a target once, or not at all: never silently without audio, never sent again."""
    async with staged(tmp_path) as stage:
        stage.tuner.plan(plan, call_id="a")
        await stage.call("a", stage.record("a.wav"))
        (failed,) = await stage.pass_until(AudioFailed)
        assert failed.reason is reason
        (listed,) = await stage.rig.ledger.calls(Filter(states=frozenset({State.FAILED})))
        assert (listed.state, listed.reason) == (State.SENT, reason.value)


async def test_a_file_that_changes_under_the_upload_is_never_uploaded(tmp_path: Path) -> None:
    """The next customer's call overwrites it while the storage has trouble: the audio is failed(audio_changed)."""
    async with staged(tmp_path) as stage:
        stage.tuner.storage.plan(FixedAnswer(503), call_id="a")
        path = stage.record("a.wav")
        await stage.call("a", path)
        await stage.rig.told.until(AudioRetried)
        path.write_bytes(wav(seconds=1.0))
        (failed,) = await stage.pass_until(AudioFailed)
        assert failed.reason is AudioReason.AUDIO_CHANGED
        assert stage.arrived("a") == []


async def test_a_file_that_changes_before_the_call_is_sent_again_keeps_the_call(tmp_path: Path) -> None:
    """The body names the first file; Tuner answered 503, and by then another one is there."""
    async with staged(tmp_path) as stage:
        stage.tuner.plan(FixedAnswer(503), call_id="a")
        path = stage.record("a.wav")
        await stage.call("a", path)
        await stage.tuner.wait_for(lambda received: len(received) == 1)
        path.write_bytes(wav(seconds=1.0))
        (failed,) = await stage.pass_until(CallFailed)
        assert failed.reason.value == "audio_changed"
        assert len(stage.tuner.received) == 1


@pytest.mark.parametrize(
    ("plan", "reason"), [(LoseAnswer(), AudioReason.UPLOAD_TARGET_LOST), (Reset(), AudioReason.AUDIO_CHANGED)]
)
async def test_a_call_that_tuner_may_have_goes_out_although_its_file_has_changed(
    tmp_path: Path, plan: Any, reason: AudioReason
) -> None:
    """Tuner's answer was lost, and by then another file is there: the same body says whether Tuner has the call, and only the audio
    is failed."""
    async with staged(tmp_path) as stage:
        stage.tuner.plan(plan, call_id="a")
        path = stage.record("a.wav")
        await stage.call("a", path)
        await stage.tuner.wait_for(lambda received: len(received) == 1)
        path.write_bytes(wav(seconds=1.0))
        (failed,) = await stage.pass_until(AudioFailed)
        assert (failed.reason, failed.holds_call) == (reason, False)
        call = await stage.stored("a")
        assert (call.state, call.audio, call.reason) == (State.SENT, AudioState.FAILED, reason.value)
        first, second = stage.tuner.received
        assert first.body == second.body
        assert stage.tuner.storage.stored == {}


@pytest.mark.parametrize("on_error", [False, True])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
async def test_what_is_no_audio_is_found_before_the_call_is_sent(tmp_path: Path, content: bytes, *, on_error: bool) -> None:
    """hold keeps the call; send sends it with the placeholder and asks for no target."""
    async with staged(tmp_path) as stage:
        await stage.call("a", stage.record("a.wav", content), sends_on_error=on_error)
        (failed,) = await stage.pass_until(AudioFailed)
        assert failed.reason is AudioReason.AUDIO_UNREADABLE
        if on_error:
            await stage.rig.told.until(CallSent)
            assert body(stage)["recording_url"] == "pending"
            assert "recording_file_extension" not in body(stage)
        else:
            assert not stage.tuner.received
        call = await stage.stored("a")
        assert (call.state, call.audio) == (State.SENT if on_error else State.FAILED, AudioState.FAILED)


async def test_a_file_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    """A call's document may be written before its recording; after ten minutes the call fails."""
    async with staged(tmp_path) as stage:
        path = stage.directory / "late.wav"
        await stage.call("a", path)
        await stage.call("never", stage.directory / "never.wav")
        await stage.clock.advance(60)
        assert not stage.rig.told.events or not stage.rig.told.seen(AudioFailed)
        stage.record("late.wav")
        await stage.pass_until(AudioUploaded)
        assert stage.arrived("a") == [sha(path)]
        (failed,) = await stage.pass_until(AudioFailed, step_s=30.0)
        assert (failed.call_id, failed.reason) == ("never", AudioReason.AUDIO_UNREADABLE)


async def test_a_file_that_is_still_written_is_left_until_it_is_whole(tmp_path: Path) -> None:
    """A WAV without its sizes is somebody's open recording; nothing is posted before it is finished."""
    async with staged(tmp_path) as stage:
        path = stage.record("a.wav", unfinished_wav(), age_s=1.0)
        await stage.call("a", path)
        await stage.clock.advance(30)
        assert not stage.tuner.received
        path = stage.record("a.wav")
        await stage.pass_until(AudioUploaded)
        assert stage.arrived("a") == [sha(path)]


async def test_audio_larger_than_the_storage_takes(tmp_path: Path) -> None:
    """The first answer says how much: that call is sent without its audio. Later ones are known before they are sent."""
    async with staged(tmp_path, Faults(max_upload_bytes=5000)) as stage:
        await stage.call("first", stage.record("a.wav", wav(seconds=1.0)))
        await stage.rig.told.until(AudioFailed)
        assert (await stage.stored("first")).state is State.SENT
        await stage.call("second", stage.record("b.wav", wav(seconds=1.0)))
        await stage.rig.told.until(AudioFailed, 2)
        call = await stage.stored("second")
        assert (call.state, call.reason) == (State.FAILED, "audio_too_large")
        assert len(stage.tuner.received) == 1


async def test_a_paused_agent_is_tried_with_one_call_until_tuner_takes_it(tmp_path: Path) -> None:
    """As calls without audio: one call each half minute, and the pause ends with the first that is taken."""
    async with staged(tmp_path, Faults(forbid_agents=("support-bot",))) as stage:
        for number in range(6):
            await stage.call(f"c{number}", stage.record(f"{number}.wav"))
        await stage.pass_until(PauseBegan, step_s=1.0)
        asked = len(stage.tuner.received)
        for _ in range(4):
            await stage.clock.advance(31)
        assert 1 <= len(stage.tuner.received) - asked <= 4
        stage.tuner.faults = Faults()
        await stage.pass_until(PauseEnded)
        await stage.pass_until(AudioUploaded, 6)


DOUBTFUL = FixedAnswer(200, body=b"<p>welcome</p>", content_type="text/html")
"""A proxy's page: nobody knows whether the call arrived."""


async def test_only_the_call_that_may_have_arrived_is_tried_again(tmp_path: Path) -> None:
    """As calls without audio: while nobody knows whether a call arrived, no other call is put into the same doubt, whatever is due
    before it; and it ends the pause."""
    async with staged(tmp_path) as stage:
        for _ in range(3):
            stage.tuner.plan(DOUBTFUL, call_id="doubted")
        await stage.call("doubted", stage.record("doubted.wav"))
        await stage.pass_until(PauseBegan, step_s=1.0)
        for number in range(6):
            await stage.call(f"c{number}", stage.record(f"{number}.wav"))
            row = (await stage.stored(f"c{number}")).row
            stage.rig.ledger.change(lambda store, row=row: store.change(store.calls.get(row), due_at=1.0))
        await stage.rig.ledger.admit(Admission(calls=[make_call("plain")]), stage.clock.now())
        await stage.pass_until(PauseEnded)
        assert {arrival.call_id for arrival in list(stage.tuner.received)[:4]} == {"doubted"}
        await stage.pass_until(CallSent, 8)


async def test_another_call_is_tried_if_the_audio_of_the_doubtful_one_is_gone(tmp_path: Path) -> None:
    """A call that waits for its audio keeps no destination paused."""
    async with staged(tmp_path) as stage:
        stage.tuner.plan(DOUBTFUL, call_id="doubted")
        path = stage.record("doubted.wav")
        await stage.call("doubted", path)
        await stage.pass_until(PauseBegan, step_s=1.0)
        path.unlink()
        await stage.rig.ledger.admit(Admission(calls=[make_call("plain")]), stage.clock.now())
        await stage.pass_until(PauseEnded)
        assert (await stage.stored("plain")).state is State.SENT


async def test_a_key_is_tried_with_a_call_that_has_audio(tmp_path: Path) -> None:
    """After a restart the pause of a refused key lasts until a call is taken, also if every call that is there has audio."""
    async with staged(tmp_path, Faults(require_key="tr_api_other"), ledger=(ledger := MemoryLedger())) as stage:
        await stage.call("a", stage.record("a.wav"))
        await stage.pass_until(PauseBegan, step_s=1.0)
        await stage.rig.stop()
    async with staged(tmp_path, Faults(require_key="tr_api_other"), ledger=ledger, clock=stage.clock) as stage:
        for _ in range(40):
            await stage.clock.advance(1.0)
        assert not stage.rig.told.seen(PauseEnded)
        assert 1 <= len(stage.tuner.received) <= 2


async def test_a_key_of_the_other_form_holds_the_call(tmp_path: Path) -> None:
    """send-calls has no upload: the call waits for an operator, and is not sent with the placeholder whatever on_error says."""
    async with staged(tmp_path, key="bb7f64d7-e57c") as stage:
        await stage.call("a", stage.record("a.wav"), sends_on_error=True)
        await stage.rig.told.until(CallFailed)
        call = await stage.stored("a")
        assert (call.state, call.reason) == (State.FAILED, "audio_form")
        assert not stage.tuner.received


@pytest.mark.parametrize("after", [AfterUpload.DELETE, AfterUpload.MOVE_TO])
async def test_a_file_goes_when_it_is_uploaded_and_not_before(tmp_path: Path, after: AfterUpload) -> None:
    """after_upload concerns the uploaded file alone."""
    async with staged(tmp_path) as stage:
        hold = HoldAnswer(asyncio.Event())
        stage.tuner.storage.plan(hold, call_id="a")
        path = stage.record("a.wav")
        content = path.read_bytes()
        await stage.call("a", path, after_upload=after, move_to="done")
        await stage.tuner.wait_for(lambda _: stage.tuner.storage.begun == 1)
        assert path.exists()
        hold.release.set()
        await stage.rig.told.until(AudioUploaded)
        await stage.clock.advance(1)
        while not stage.rig.delivery.idle():
            await stage.clock.advance(1)
        assert not path.exists()
        assert [one.read_bytes() for one in stage.directory.rglob("*.wav")] == ([content] if after is AfterUpload.MOVE_TO else [])
        assert not stage.rig.told.seen(AudioNotDisposed)
        assert await stage.rig.ledger.leftovers() == []


async def test_a_file_that_cannot_be_moved_is_tried_again(tmp_path: Path) -> None:
    """Told once with what to do, then tried every five minutes until it works; the call is sent all the while."""
    async with staged(tmp_path) as stage:
        path = stage.record("a.wav")
        (in_the_way := stage.directory / "done").write_bytes(b"a file where a directory should be")
        await stage.call("a", path, after_upload=AfterUpload.MOVE_TO, move_to="done")
        (kept,) = await stage.rig.told.until(AudioNotDisposed)
        assert "choose another directory, or move that away" in kept.why
        await stage.clock.advance(2 * DISPOSE_AGAIN_S)
        assert len(stage.rig.told.seen(AudioNotDisposed)) == 1
        assert path.exists()
        assert len(await stage.rig.ledger.leftovers()) == 1
        in_the_way.unlink()
        await stage.clock.advance(DISPOSE_AGAIN_S)
        while await stage.rig.ledger.leftovers():
            await stage.clock.advance(1)
        assert [one.parent.name for one in stage.directory.rglob("a.wav")] == ["done"]
        assert (await stage.stored("a")).state is State.SENT


async def test_the_next_start_tries_again_too(tmp_path: Path) -> None:
    """What the last process could not move, the next one moves when it starts."""
    ledger = MemoryLedger()
    async with staged(tmp_path, ledger=ledger) as stage:
        stage.record("a.wav")
        (stage.directory / "done").write_bytes(b"in the way")
        await stage.call("a", stage.directory / "a.wav", after_upload=AfterUpload.MOVE_TO, move_to="done")
        await stage.rig.told.until(AudioNotDisposed)
        await stage.rig.stop()
    (tmp_path / "rec" / "done").unlink()
    async with staged(tmp_path, ledger=ledger) as stage:
        while await ledger.leftovers():
            await stage.clock.advance(1)
        assert (tmp_path / "rec" / "done" / "a.wav").exists()


async def test_two_hundred_calls_after_an_outage_let_no_target_wait(tmp_path: Path) -> None:
    """Never more targets are open than there are slots: each is used at once."""
    async with staged(tmp_path) as stage:
        stage.rig.delivery.shift(0)
        paths = [stage.record(f"{number}.wav") for number in range(200)]
        await stage.rig.delivery.pause("tuner")
        for number, path in enumerate(paths):
            await stage.call(f"c{number}", path)
        await stage.rig.delivery.resume("tuner")
        await stage.pass_until(AudioUploaded, 200, step_s=1.0)
        assert not stage.rig.told.seen(AudioFailed)
        assert sorted(len(one) for one in stage.tuner.storage.stored.values()) == [1] * 200


async def test_a_file_that_is_overwritten_during_an_outage_is_not_uploaded(tmp_path: Path) -> None:
    """It was looked at when its call came; what stands there when Tuner is back is the audio of the next customer."""
    async with staged(tmp_path) as stage:
        await stage.rig.delivery.pause("tuner")
        paths = [stage.record(f"{number}.wav") for number in range(9)]
        for number, path in enumerate(paths):
            await stage.call(f"c{number}", path)
        while await stage.rig.ledger.unseen_audio(0, 10):
            await stage.clock.advance(0.1)
        stage.record("8.wav", wav(seconds=2.0))
        await stage.rig.delivery.resume("tuner")
        await stage.pass_until(AudioUploaded, 8, step_s=1.0)
        (failed,) = await stage.pass_until(CallFailed, step_s=1.0)
        assert (failed.call_id, failed.reason.value) == ("c8", "audio_changed")
        assert stage.arrived("c8") == []


async def test_two_calls_that_name_one_file_do_not_get_it(tmp_path: Path) -> None:
    """A backlog of documents that all say recording.wav: the file is one call's, and nobody knows whose."""
    async with staged(tmp_path) as stage:
        path = stage.record("recording.wav")
        own = AudioPlan(publish=Publish.UPLOAD, files=(str(stage.directory),))
        location = file_location(str(path)).text
        both = [make_call(name, strategies=(UrlStrategy(location=location),), audio=own) for name in ("a", "b")]
        await stage.rig.ledger.admit(Admission(calls=both), stage.clock.now())
        failed = await stage.pass_until(AudioFailed, 2)
        assert {one.reason for one in failed} == {AudioReason.AUDIO_CHANGED}
        assert "the call b names the same file" in (await stage.stored("a")).detail
        assert "the call a names the same file" in (await stage.stored("b")).detail
        assert stage.tuner.storage.stored == {}
        assert not stage.tuner.received


async def test_a_stop_that_empties_waits_for_uploads(tmp_path: Path) -> None:
    """`on_stop: empty`: a ledger that ends with its pod has no later. What is due is sent, and its audio uploaded."""
    async with staged(tmp_path, on_stop="empty") as stage:
        for number in range(6):
            await stage.call(f"c{number}", stage.record(f"{number}.wav"))
        stage.rig.stopping.set()
        await stage.rig.stop()
        assert len(stage.rig.told.seen(AudioUploaded)) == 6


async def test_a_stop_does_not_wait_for_a_storage_that_fails(tmp_path: Path) -> None:
    """`on_stop: finish`: an upload that would have to be tried again is left to the next start."""
    async with staged(tmp_path, Faults(fail_uploads={"503": 1.0}), ledger=(ledger := MemoryLedger())) as stage:
        await stage.call("a", stage.record("a.wav"))
        await stage.rig.told.until(AudioRetried)
        await stage.rig.stop()
        (left,) = await ledger.open_uploads()
        assert left.call_id == "a"


async def test_the_next_start_ends_what_the_last_one_left(tmp_path: Path) -> None:
    """After a restart uploads continue with the stored target, and files that were not moved yet are moved."""
    ledger = MemoryLedger()
    async with staged(tmp_path, Faults(fail_uploads={"503": 1.0}), ledger=ledger) as stage:
        path = stage.record("a.wav")
        content = path.read_bytes()
        await stage.call("a", path, after_upload=AfterUpload.MOVE_TO, move_to="done")
        await stage.rig.told.until(AudioRetried)
        await stage.rig.stop()
        stage.tuner.faults = Faults()
        tools = AudioTools(
            places={LocationKind.FILE: LocalPlace(DirectoryThreads(stage.clock, stage.rig.told))},
            upload=StorageUploader(stage.session, {}, SystemClock()),
        )
        async with delivering(scripted(lambda _: SENT), clock=stage.clock, ledger=ledger, audio=tools) as again:
            await again.told.until(AudioUploaded)
            while await ledger.leftovers():
                await stage.clock.advance(0.1)
        assert (tmp_path / "rec" / "done" / "a.wav").read_bytes() == content
        assert stage.arrived("a") == [hashlib.sha256(content).hexdigest()]


@needs_hanging_mount
async def test_a_directory_that_hangs_gives_its_slots_back(tmp_path: Path) -> None:
    """The directory begins to hang when the calls of all slots are sent, so that the uploads cannot read: audio of another
    directory is uploaded meanwhile. When the directory is back, these uploads reach the target that they have."""
    async with staged(tmp_path, answer_s=0.2) as stage:
        disk = tmp_path / "disk"
        disk.mkdir()
        hold, names = HoldAnswer(asyncio.Event()), [f"nfs{number}" for number in range(SLOTS)]
        for name in names:
            stage.tuner.plan(hold, call_id=name)
            await stage.call(name, stage.record(f"{name}.wav"))
        await stage.tuner.wait_for(lambda received: len(received) == SLOTS)
        elsewhere = stage.record("disk.wav").rename(disk / "disk.wav")
        await stage.call("disk", elsewhere, files=(str(disk),))
        with hanging(stage.directory):
            hold.release.set()
            (uploaded,) = await stage.rig.told.until(AudioUploaded)
            assert uploaded.call_id == "disk"
            assert [(await stage.stored(name)).audio for name in names] == [AudioState.UPLOADING] * SLOTS
            assert not stage.rig.delivery.idle()
        await stage.pass_until(AudioUploaded, SLOTS + 1)
        assert {name: len(stage.arrived(name)) for name in names} == dict.fromkeys(names, 1)
        assert len(stage.rig.told.seen(DirectoryHangs)) == len(stage.rig.told.seen(DirectoryAnswers)) == 1
        assert len(stage.tuner.received) == SLOTS + 1


@needs_hanging_mount
async def test_a_file_that_cannot_be_deleted_because_its_directory_hangs(tmp_path: Path) -> None:
    """It is reported, and deleted when the directory is back."""
    async with staged(tmp_path, answer_s=0.2) as stage:
        path, hold = stage.record("a.wav"), HoldAnswer(asyncio.Event())
        stage.tuner.storage.plan(hold, call_id="a")
        await stage.call("a", path, after_upload=AfterUpload.DELETE)
        await stage.tuner.wait_for(lambda _: stage.tuner.storage.begun == 1)
        with hanging(stage.directory):
            hold.release.set()
            (kept,) = await stage.rig.told.until(AudioNotDisposed)
            assert f"the directory {stage.directory} has not answered" in kept.why
        while path.exists():
            await stage.clock.advance(DISPOSE_AGAIN_S)
