"""The lines of the log about recordings: uploads, and URLs that are asked for."""

from tunerd import audio_events as ae
from tunerd.events import Event
from tunerd.ops.log_writer import Line


def audio_line(event: Event) -> Line | None:
    match event:
        case ae.AudioFailed() if not event.holds_call:
            return Line("warning", "the audio of a call does not reach Tuner", {
                "source": event.source, "call_id": event.call_id, "reason": event.reason.value, "what": event.what,
                "path": event.path, "hint": "tunerd failed"}, "audio failed")  # fmt: skip
        case ae.AudioNotDisposed():
            return Line("warning", "after_upload failed", {"source": event.source, "why": event.why}, "after_upload failed")
        case ae.DirectoryHangs():
            return Line("warning", "a directory of recordings does not answer; its calls wait", {
                "directory": event.directory, "after_s": event.after_s,
                "hint": "bring its server back, or end what hangs with umount -f"})  # fmt: skip
        case ae.DirectoryAnswers():
            return Line("info", "a directory of recordings answers again", {
                "directory": event.directory, "after_s": round(event.lasted_s)})  # fmt: skip
        case ae.UrlChecked() if event.is_first and event.detail:
            return Line("warning" if event.found == "refused" else "info", "a recording is not there yet; its call waits", {
                "source": event.source, "call_id": event.call_id, "url": event.url, "found": event.found, "detail": event.detail,
                "path": event.path}, "recording not there")  # fmt: skip
        case _:
            return None


def audio_detail(event: Event) -> Line | None:
    """What only `log: {level: debug}` shows."""
    match event:
        case ae.AudioUploaded():
            return Line("debug", "audio uploaded", {
                "source": event.source, "call_id": event.call_id, "bytes": event.size,
                "attempts": event.attempts})  # fmt: skip
        case ae.AudioRetried():
            return Line("debug", "upload of audio to be retried", {
                "source": event.source, "call_id": event.call_id, "detail": event.detail,
                "attempts": event.attempts})  # fmt: skip
        case ae.UrlChecked():
            return Line("debug", "URL of a recording asked for", {
                "source": event.source, "call_id": event.call_id, "url": event.url, "found": event.found,
                "detail": event.detail})  # fmt: skip
        case _:
            return None
