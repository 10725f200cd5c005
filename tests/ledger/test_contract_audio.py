"""What a ledger promises about audio that tunerd uploads (AudioPath), and about the calls that it belongs to."""

from dataclasses import replace

from tests.ledger.parts import FORM, NOW, REJECTED, SENT, bring, egress, file_mark, freeze, later, put, recording, take, waiting
from tunerd.call import AfterUpload, AudioPlan, AudioState, Call, Fail, Publish, State, UrlStrategy
from tunerd.ledger import (
    Admission,
    AudioEnded,
    Claimed,
    Filter,
    Ledger,
    PreparedAudio,
    Retention,
    StoredCall,
    Unfrozen,
    UploadRequest,
    UploadTarget,
)
from tunerd.outcome import AudioReason, FailReason
from tunerd.testing import make_call

PLAN = AudioPlan(publish=Publish.UPLOAD, files=("/rec",))
FILE = "file:///rec/a.wav"
READY = PreparedAudio(location=FILE, identity="id-1", extension="wav", size=10, channels=2)
TARGET = UploadTarget(offer=b'{"url": "https://s3"}', expires_at=NOW + 600, max_bytes=1000)
LOST = AudioEnded(reason=AudioReason.UPLOAD_TARGET_LOST, detail="gone")
CHANGED = AudioEnded(reason=AudioReason.AUDIO_CHANGED, detail="another file")
ALL = Filter(dismissed=None)


def local(call_id: str = "a", plan: AudioPlan = PLAN, location: str = FILE) -> Call:
    return make_call(call_id, strategies=(UrlStrategy(location=location),), audio=plan)


async def the(ledger: Ledger, call_id: str = "a") -> StoredCall:
    (found,) = await ledger.calls(Filter(call_ids=frozenset({call_id}), dismissed=None))
    return found


async def row_of(ledger: Ledger) -> int:
    found, _ = await ledger.next_audio("tuner", NOW, (), ())
    assert found is not None
    return found.row


async def claimed_with_audio(ledger: Ledger, audio: PreparedAudio = READY) -> Claimed:
    claim = await ledger.claim("tuner", FORM, freeze, NOW, only=await row_of(ledger), audio=audio)
    assert claim.claimed is not None
    return claim.claimed


async def uploading(ledger: Ledger, plan: AudioPlan = PLAN) -> int:
    await put(ledger, local(plan=plan))
    claimed = await claimed_with_audio(ledger)
    await ledger.settle(claimed.row, replace(SENT, audio=TARGET), NOW)
    return claimed.row


async def test_a_call_with_audio_to_upload_is_only_claimed_with_it(ledger: Ledger) -> None:
    """Without a slot for its audio nobody gets it: the target would wait. What asks for the target is in its body."""
    await put(ledger, local(), make_call("plain"))
    seen: list[Unfrozen] = []

    def noted(unfrozen: Unfrozen) -> bytes:
        seen.append(unfrozen)
        return freeze(unfrozen)

    first = await take(ledger)
    assert first.claimed is not None
    assert first.claimed.call_id == "plain"
    assert (await take(ledger)).claimed is None
    row = await row_of(ledger)
    assert (await ledger.claim("tuner", FORM, noted, NOW, only=row)).claimed is None
    assert (await ledger.claim("tuner", FORM, noted, NOW, only=row, audio=READY)).claimed is not None
    (made,) = seen
    assert (made.recording_url, made.upload) == ("pending", UploadRequest(extension="wav", channels=2))
    assert ledger.gauges().audio == {
        AudioState.PENDING: 1, AudioState.UPLOADING: 0, AudioState.UPLOADED: 0, AudioState.FAILED: 0,
    }  # fmt: skip


async def test_a_url_is_not_uploaded_and_no_plan_uploads_nothing(ledger: Ledger) -> None:
    """`audio: upload` is about what Tuner cannot fetch."""
    await put(
        ledger, local("url", location="https://audio.example/a.wav"), local("signed", replace(PLAN, publish=Publish.PRESIGN))
    )
    assert {(await the(ledger, name)).audio for name in ("url", "signed")} == {AudioState.NONE}


async def test_a_recording_that_a_manifest_names_is_uploaded_too(ledger: Ledger) -> None:
    """A location counts, whoever brought it; the next description of the recording takes its place until the call is frozen."""
    await put(ledger, replace(waiting("a", egress()), audio=PLAN))
    await bring(ledger, recording("s3://bucket/old.wav"))
    found, _ = await ledger.next_audio("tuner", NOW, (), ())
    assert found is not None
    assert (found.location, found.plan) == ("s3://bucket/old.wav", PLAN)
    newer = recording("s3://bucket/new.wav", path="/egress/2.json")
    await bring(ledger, replace(newer, origin=replace(newer.origin, mtime_ns=2)))
    found, _ = await ledger.next_audio("tuner", NOW, (), ())
    assert found is not None
    assert found.location == "s3://bucket/new.wav"


async def test_the_next_audio_is_the_one_that_is_due_first_and_that_nobody_is_busy_with(ledger: Ledger) -> None:
    """Postponed audio comes when it is due; another agent's calls are left out while that agent is paused."""
    await put(ledger, local("a"), local("b"), make_call("c", strategies=(UrlStrategy(location=FILE),), audio=PLAN, agent="other"))
    first, _ = await ledger.next_audio("tuner", NOW, (), ())
    assert first is not None
    second, _ = await ledger.next_audio("tuner", NOW, {first.row}, ())
    assert second is not None
    assert [first.call_id, second.call_id] == ["a", "b"]
    await ledger.audio_later(first.row, NOW + 5, "still being written")
    await ledger.audio_later(second.row, NOW + 9, "still being written")
    assert await ledger.next_audio("tuner", NOW, (), {"other"}) == (None, NOW + 5)
    again, _ = await ledger.next_audio("tuner", NOW + 5, (), {"other"})
    assert again is not None
    assert again.call_id == "a"


async def test_many_calls_of_a_paused_agent_hide_no_other_agent(ledger: Ledger) -> None:
    """However many of them came first, the other agent's call is found, and when it is due; alone they are nothing to wait for."""
    paused = [replace(local(str(number), location=f"file:///rec/{number}.wav"), agent="paused") for number in range(100)]
    await put(ledger, *paused)
    assert await ledger.next_audio("tuner", NOW, (), {"paused"}) == (None, None)
    await put(ledger, local("y"))
    found, _ = await ledger.next_audio("tuner", NOW, (), {"paused"})
    assert found is not None
    assert found.call_id == "y"
    assert await ledger.next_audio("tuner", NOW, {found.row}, {"paused"}) == (None, None)
    await ledger.audio_later(found.row, NOW + 5, "still being written")
    assert await ledger.next_audio("tuner", NOW, (), {"paused"}) == (None, NOW + 5)


async def test_a_target_is_kept_until_the_upload_ends_and_then_erased(ledger: Ledger) -> None:
    """The settlement brings the target; another process would find the upload; at its end nothing of the target is left."""
    row = await uploading(ledger)
    call = await the(ledger)
    assert (call.state, call.audio) == (State.SENT, AudioState.UPLOADING)
    (upload,) = await ledger.open_uploads()
    assert (upload.offer, upload.expires_at, upload.identity, upload.size) == (TARGET.offer, NOW + 600, "id-1", 10)
    assert "s3" not in repr(upload)
    await ledger.upload_tried(row, "the storage answered 503")
    await ledger.upload_ended(row, None, NOW + 1)
    assert (await the(ledger)).audio is AudioState.UPLOADED
    assert await ledger.open_uploads() == []
    assert await ledger.upload(row) is None
    assert await ledger.audio_limit("tuner") == 1000
    await ledger.upload_ended(row, LOST, NOW + 2)
    assert (await the(ledger)).audio is AudioState.UPLOADED


async def test_audio_that_tuner_gave_no_target_for_is_listed_with_the_failed_calls(ledger: Ledger) -> None:
    """The call is sent and stays sent; the loss of its audio is seen until a person dismisses it."""
    await put(ledger, local())
    claimed = await claimed_with_audio(ledger)
    await ledger.settle(claimed.row, replace(SENT, audio=LOST), NOW)
    (listed,) = await ledger.calls(Filter(states=frozenset({State.FAILED})))
    assert (listed.state, listed.audio, listed.reason) == (State.SENT, AudioState.FAILED, "upload_target_lost")
    assert ledger.gauges().audio[AudioState.FAILED] == 1
    assert await ledger.requeue(claimed.row, NOW) is State.SENT
    assert await ledger.dismiss([claimed.row], NOW) == 1
    assert await ledger.calls(Filter(states=frozenset({State.FAILED}))) == []
    assert ledger.gauges().audio[AudioState.FAILED] == 0


async def test_audio_that_cannot_be_used_keeps_its_call(ledger: Ledger) -> None:
    """on_error hold: the call fails unsent, and a retry looks at the audio anew."""
    await put(ledger, local())
    ended = AudioEnded(reason=AudioReason.AUDIO_UNREADABLE, detail="it is empty")
    failed = await ledger.audio_unusable(await row_of(ledger), ended, NOW)
    assert failed is not None
    assert failed.refusal.reason is FailReason.AUDIO_UNREADABLE
    call = await the(ledger)
    assert (call.state, call.audio, call.where, call.detail) == (State.FAILED, AudioState.FAILED, "audio", "it is empty")
    assert await ledger.requeue(call.row, NOW) is State.DUE
    found, _ = await ledger.next_audio("tuner", NOW, (), ())
    assert found is not None
    assert found.identity == ""


async def test_audio_that_cannot_be_used_may_let_its_call_go_with_the_placeholder(ledger: Ledger) -> None:
    """on_error send: any worker sends the call, and it asks for no target."""
    woken: list[str] = []
    ledger.on_due(woken.append)
    await put(ledger, local(plan=replace(PLAN, sends_on_error=True, placeholder="none")))
    woken.clear()
    ended = AudioEnded(reason=AudioReason.AUDIO_UNREADABLE, detail="it is empty")
    assert await ledger.audio_unusable(await row_of(ledger), ended, NOW) is None
    assert set(woken) == {"tuner"}
    claimed = (await take(ledger)).claimed
    assert claimed is not None
    assert b'"recording_url":"none"' in claimed.body
    await ledger.settle(claimed.row, SENT, NOW)
    call = await the(ledger)
    assert (call.state, call.audio, call.reason) == (State.SENT, AudioState.FAILED, "audio_unreadable")


async def test_the_wrong_form_holds_a_call_whatever_its_plan_says(ledger: Ledger) -> None:
    """A key of the other form is never a reason to send the placeholder."""
    await put(ledger, local(plan=replace(PLAN, sends_on_error=True)))
    failed = await ledger.audio_unusable(await row_of(ledger), AudioEnded(reason=AudioReason.AUDIO_FORM, detail="other"), NOW)
    assert failed is not None
    assert (await the(ledger)).state is State.FAILED


async def test_a_retried_call_keeps_the_audio_that_it_was_claimed_with(ledger: Ledger) -> None:
    """Its body names that audio: a file that took its place since is not meant."""
    await put(ledger, local())
    claimed = await claimed_with_audio(ledger)
    await ledger.settle(claimed.row, later(NOW), NOW)
    found, _ = await ledger.next_audio("tuner", NOW, (), ())
    assert found is not None
    assert found.identity == "id-1"
    assert (await take(ledger)).claimed is None


async def test_a_sent_call_is_kept_until_its_audio_is_uploaded(ledger: Ledger) -> None:
    """Retention takes it when its audio is at Tuner, or when a person has dismissed it."""
    keep = Retention(sent_s=1, failed_s=1, recordings_s=1, max_failed_bytes=1 << 30)
    row = await uploading(ledger)
    assert await ledger.trim(keep, NOW + 100) == 0
    await ledger.upload_ended(row, LOST, NOW)
    assert await ledger.trim(keep, NOW + 100) == 0
    await ledger.dismiss([row], NOW)
    assert await ledger.trim(keep, NOW + 100) == 1
    assert await ledger.upload(row) is None


async def test_what_becomes_of_an_uploaded_file_outlives_a_crash(ledger: Ledger) -> None:
    """`after_upload` is a debt of the ledger until it is carried out."""
    row = await uploading(ledger, replace(PLAN, after_upload=AfterUpload.MOVE_TO, move_to="done"))
    assert await ledger.leftovers() == []
    await ledger.upload_ended(row, None, NOW)
    (left,) = await ledger.leftovers()
    assert (left.row, left.location, left.identity, left.plan.move_to) == (row, FILE, "id-1", "done")
    await ledger.leftover_done(row)
    assert await ledger.leftovers() == []


async def test_a_newer_document_begins_its_audio_anew(ledger: Ledger) -> None:
    """Nothing is left of what was known of the first document's audio."""
    await put(ledger, local())
    await ledger.audio_later(await row_of(ledger), NOW + 50, "still being written")
    await put(ledger, replace(local(location="https://audio.example/b.wav"), origin=replace(local().origin, mtime_ns=9)))
    call = await the(ledger)
    assert (call.audio, call.recording_location) == (AudioState.NONE, "https://audio.example/b.wav")


async def test_a_newer_document_without_audio_leaves_none(ledger: Ledger) -> None:
    """The call fails for its missing recording, and does not count as one whose audio is pending. When a document names the same
    audio again, what was seen there first is still meant."""
    await put(ledger, local())
    await ledger.audio_seen(await row_of(ledger), FILE, "id-1")
    nothing = make_call("a", strategies=(UrlStrategy(location=None),), audio=PLAN, on_missing=Fail())
    await put(ledger, replace(nothing, origin=replace(nothing.origin, mtime_ns=9)))
    call = await the(ledger)
    assert (call.state, call.reason, call.audio) == (State.FAILED, "recording_missing", AudioState.NONE)
    assert ledger.gauges().audio[AudioState.PENDING] == 0
    assert await ledger.next_audio("tuner", NOW, (), ()) == (None, None)
    await put(ledger, replace(local(), origin=replace(nothing.origin, mtime_ns=10)))
    found, _ = await ledger.next_audio("tuner", NOW, (), ())
    assert found is not None
    assert found.identity == "id-1"


async def test_the_first_look_says_which_audio_is_meant(ledger: Ledger) -> None:
    """Whatever stands there later is other audio: a claim with it gets nothing."""
    await put(ledger, local())
    (found,) = await ledger.unseen_audio(0, 10)
    await ledger.audio_seen(found.row, "file:///rec/other.wav", "id-0")
    await ledger.audio_seen(found.row, FILE, "id-1")
    await ledger.audio_seen(found.row, FILE, "id-2")
    assert await ledger.unseen_audio(0, 10) == []
    other = replace(READY, identity="id-2")
    assert (await ledger.claim("tuner", FORM, freeze, NOW, only=found.row, audio=other)).claimed is None
    elsewhere = replace(READY, location="file:///rec/b.wav")
    assert (await ledger.claim("tuner", FORM, freeze, NOW, only=found.row, audio=elsewhere)).claimed is None
    assert (await ledger.claim("tuner", FORM, freeze, NOW, only=found.row, audio=READY)).claimed is not None


async def test_of_two_calls_that_name_one_file_neither_gets_it(ledger: Ledger) -> None:
    """Both were read before the file was looked at, and it can be the recording of one of them only."""
    await put(ledger, local("a"), local("b"))
    first, second = await ledger.unseen_audio(0, 10)
    assert await ledger.audio_seen(first.row, FILE, "id-1") == "b"
    assert (await ledger.claim("tuner", FORM, freeze, NOW, only=first.row, audio=READY)).claimed is None
    await ledger.audio_unusable(first.row, CHANGED, NOW)
    assert await ledger.audio_seen(second.row, FILE, "id-1") == "a"
    assert (await ledger.claim("tuner", FORM, freeze, NOW, only=second.row, audio=READY)).claimed is None


async def test_a_file_that_was_overwritten_between_two_calls_is_the_second_ones(ledger: Ledger) -> None:
    """The same place is not the same file: each call has what stood there when it was looked at."""
    await put(ledger, local("a"))
    assert await ledger.audio_seen((await row_of(ledger)), FILE, "id-1") is None
    await claimed_with_audio(ledger)
    await put(ledger, local("b"))
    assert await ledger.audio_seen((await row_of(ledger)), FILE, "id-2") is None
    await claimed_with_audio(ledger, replace(READY, identity="id-2"))


async def test_a_call_that_was_sent_with_a_file_keeps_it(ledger: Ledger) -> None:
    """Only the later call that names the same file is refused; the first is tried again as before."""
    await put(ledger, local("a"))
    first = await claimed_with_audio(ledger)
    await ledger.settle(first.row, later(NOW), NOW)
    await put(ledger, local("b"))
    (second,) = await ledger.unseen_audio(0, 10)
    assert await ledger.audio_seen(second.row, FILE, "id-1") == "a"
    assert await ledger.audio_seen(first.row, FILE, "id-1") is None
    assert (await ledger.claim("tuner", FORM, freeze, NOW, only=first.row, audio=READY)).claimed is not None


async def test_a_person_decides_which_of_two_calls_a_file_belongs_to(ledger: Ledger) -> None:
    """`retry --recording` gives the file to one call; a retry of the other is refused as before."""
    await put(ledger, local("a"), local("b"))
    first, second = await ledger.unseen_audio(0, 10)
    for one in (first, second):
        await ledger.audio_seen(one.row, FILE, "id-1")
        await ledger.audio_unusable(one.row, CHANGED, NOW)
    assert await ledger.use_recording(second.row, FILE, NOW) is State.DUE
    assert await ledger.audio_seen(second.row, FILE, "id-1") is None
    assert (await ledger.claim("tuner", FORM, freeze, NOW, only=second.row, audio=READY)).claimed is not None
    await ledger.requeue(first.row, NOW)
    assert await ledger.audio_seen(first.row, FILE, "id-1") == "b"


async def test_a_rejected_call_that_is_mapped_again_keeps_the_audio_that_was_seen(ledger: Ledger) -> None:
    """A retry is hours later: what stands in the audio's place by then may be another customer's. The failed call does not count as
    one whose audio is pending."""
    await put(ledger, local())
    claimed = await claimed_with_audio(ledger)
    await ledger.settle(claimed.row, REJECTED, NOW)
    assert ledger.gauges().audio[AudioState.PENDING] == 0
    assert await ledger.replace(claimed.row, local(), NOW + 9) is State.DUE
    found, _ = await ledger.next_audio("tuner", NOW + 9, (), ())
    assert found is not None
    assert found.identity == "id-1"
    assert ledger.gauges().audio[AudioState.PENDING] == 1


async def test_only_a_person_who_names_the_location_gives_a_call_changed_audio(ledger: Ledger) -> None:
    """`retry` (also of all calls at once) and a newer mapping mean the audio that was seen: what stands there now may be another
    customer's."""
    await put(ledger, local())
    row = await row_of(ledger)
    await ledger.audio_seen(row, FILE, "id-1")
    for is_mapped_again in (False, True):
        await ledger.audio_unusable(row, CHANGED, NOW)
        assert await (ledger.replace(row, local(), NOW) if is_mapped_again else ledger.requeue(row, NOW)) is State.DUE
        found, _ = await ledger.next_audio("tuner", NOW, (), ())
        assert found is not None
        assert found.identity == "id-1"
    await ledger.audio_unusable(row, CHANGED, NOW)
    assert await ledger.use_recording(row, FILE, NOW) is State.DUE
    found, _ = await ledger.next_audio("tuner", NOW, (), ())
    assert found is not None
    assert found.identity == ""


async def test_a_jump_of_the_clock_takes_no_patience_with_a_missing_file(ledger: Ledger) -> None:
    """How long audio was looked for stays as it was."""
    await put(ledger, local())
    await ledger.shift(3600.0)
    found, _ = await ledger.next_audio("tuner", NOW + 3600, (), ())
    assert found is not None
    assert found.looked_from == NOW + 3600


async def test_a_file_is_disposable_when_the_audio_of_its_calls_is_uploaded(ledger: Ledger) -> None:
    """after_sent waits for the storage, or for a person who dismisses what was lost."""
    call = local()
    await ledger.admit(Admission(calls=[call], mark=file_mark(call.origin.path)), NOW)
    claimed = await claimed_with_audio(ledger)
    await ledger.settle(claimed.row, replace(SENT, audio=TARGET), NOW)
    assert await ledger.disposable("agent", to_the_end=True) == ()
    await ledger.upload_ended(claimed.row, LOST, NOW)
    assert await ledger.disposable("agent", to_the_end=True) == ()
    await ledger.dismiss([claimed.row], NOW)
    assert [mark.path for mark in await ledger.disposable("agent", to_the_end=True)] == [call.origin.path]


async def test_audio_in_the_spool_is_known_while_somebody_may_need_it(ledger: Ledger) -> None:
    """A free recording, and a call whose audio may still be uploaded. Not once Tuner has the call and its audio failed, and not
    after an operator dismissed the call."""
    entries = [f"embedded:{name}" for name in ("free", "sent", "dismissed", "waits")]
    for name in ("sent", "dismissed", "waits"):
        await put(ledger, replace(waiting(name, egress(name)), audio=PLAN))
    for name, entry in zip(("free", "sent", "dismissed", "waits"), entries, strict=True):
        await bring(ledger, recording(entry, key=name, path=f"/audio/{name}.json"))
    assert set(await ledger.known_locations([*entries, "embedded:nobody"])) == set(entries)
    audio = replace(READY, location="embedded:sent")
    claim = await ledger.claim("tuner", FORM, freeze, NOW, only=(await the(ledger, "sent")).row, audio=audio)
    assert claim.claimed is not None
    assert "embedded:sent" in await ledger.known_locations(entries)
    await ledger.settle(claim.claimed.row, replace(SENT, audio=LOST), NOW)
    row = (await the(ledger, "dismissed")).row
    await ledger.audio_unusable(row, AudioEnded(reason=AudioReason.AUDIO_UNREADABLE, detail="no audio"), NOW)
    assert set(await ledger.known_locations(entries)) == {"embedded:free", "embedded:dismissed", "embedded:waits"}
    await ledger.dismiss([row], NOW)
    assert set(await ledger.known_locations(entries)) == {"embedded:free", "embedded:waits"}


async def test_audio_in_the_spool_of_a_call_that_has_none_any_more_is_not_known(ledger: Ledger) -> None:
    """A newer document of the call came without audio; the entry would stay as long as the call. While it waits it may find it
    again."""
    call = replace(waiting("a", UrlStrategy(location="embedded:a")), audio=PLAN)
    await put(ledger, call)
    assert list(await ledger.known_locations(["embedded:a"])) == ["embedded:a"]
    newer = replace(call.origin, mtime_ns=call.origin.mtime_ns + 1)
    await put(ledger, replace(call, origin=newer, strategies=(egress("a"),)))
    assert list(await ledger.known_locations(["embedded:a"])) == ["embedded:a"]
    newer = replace(call.origin, mtime_ns=call.origin.mtime_ns + 2)
    await put(ledger, replace(call, origin=newer, strategies=(), on_missing=Fail()))
    assert list(await ledger.known_locations(["embedded:a"])) == []


async def test_audio_in_the_spool_that_is_uploaded_is_not_known_any_more(ledger: Ledger) -> None:
    """A document that is read again after the upload puts the same entry into the spool, and it would stay there."""
    await put(ledger, replace(waiting("a", egress("a")), audio=PLAN))
    await bring(ledger, recording("embedded:a", key="a"))
    claim = await ledger.claim("tuner", FORM, freeze, NOW, only=await row_of(ledger), audio=replace(READY, location="embedded:a"))
    assert claim.claimed is not None
    await ledger.settle(claim.claimed.row, replace(SENT, audio=TARGET), NOW)
    assert list(await ledger.known_locations(["embedded:a"])) == ["embedded:a"]
    await ledger.upload_ended(claim.claimed.row, None, NOW)
    assert list(await ledger.known_locations(["embedded:a"])) == []
