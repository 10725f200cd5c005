"""What `status CALL_ID` says of audio that tunerd uploads. Pure; nothing here holds a location or anything of a target."""

from datetime import UTC, datetime

from tunerd.call import AudioState
from tunerd.ledger.rows import KeptAudio, LedgerRow


def audio_words(row: LedgerRow, audio: KeptAudio | None) -> str:
    """How the audio of a call reaches Tuner, and how far that is, in one line."""
    if audio is None:
        return ""
    size = f"{audio.size:,} bytes" if audio.size else "not looked at yet"
    match row.audio:
        case AudioState.PENDING:
            why = f"; {audio.detail}" if audio.detail else ""
            return f"tunerd uploads it to Tuner's storage ({size}); the call is sent when it is there and a slot is free{why}"
        case AudioState.UPLOADING:
            until = "" if audio.expires_at is None else f", until {datetime.fromtimestamp(audio.expires_at, UTC):%H:%M:%SZ}"
            tried = f"; {audio.attempts} attempts were in vain, the last one: {audio.detail}" if audio.detail else ""
            return f"being uploaded to Tuner's storage ({size}{until}){tried}"
        case AudioState.UPLOADED:
            return f"uploaded to Tuner's storage ({size})"
        case AudioState.FAILED:
            return f"does not reach Tuner: {audio.reason}: {audio.detail}"
        case AudioState.NONE:
            return ""
