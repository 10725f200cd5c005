"""Which platform a file comes from: every preset is tried on its documents, and each has marks that only its platform makes.

A mark is a JMESPath over the document that is true for that platform's documents, those that its preset leaves out on
purpose included. A preset without marks is still found where it maps the file.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from tunerd.call import Document, RefusedDocument
from tunerd.mapping import presets
from tunerd.mapping.expressions import compile_item
from tunerd.mapping.functions import Run
from tunerd.mapping.values import RuleError, true
from tunerd.record import record
from tunerd.workbench.catalogue import preset_info
from tunerd.workbench.compiled import CompiledSource, compile_preset
from tunerd.workbench.evaluation import mapped, units

PLACEHOLDER: Final = "https://recordings.example.com/"
"""For what a preset wants to know from the environment."""
_LOOKED_AT: Final = 60
"""Documents of a file; a log may have millions."""

MARKS: Final[Mapping[str, Sequence[str]]] = {
    "amazon-connect": (
        "ContactId && (Channel || AWSAccountId || InitiationMethod || InitiationTimestamp)",
        "CustomerMetadata.ContactId",
    ),
    "asterisk-recording": (
        "asterisk_id",
        "recording.name && starts_with(type, 'Recording')",
        "channel.id && starts_with(type, 'Channel')",
    ),
    "bland": ("c_id", "concatenated_transcript || corrected_duration || pathway_logs"),
    "daily-recording": ("starts_with(type, 'recording.') && payload", "starts_with(type, 'recording.') && room_name"),
    "deepgram": (
        '(type && contains(`["Welcome", "SettingsApplied", "ConversationText", "FunctionCallRequest", "FunctionCallResponse", '
        '"AgentThinking", "AgentStartedSpeaking", "AgentAudioDone", "UserStartedSpeaking", "LatencyReport", "History"]`, type))',
    ),
    "dograh": ("logs.realtime_feedback_events || logs.tuner_payload", "workflow_run_id", "workflow_id && gathered_context"),
    "elevenlabs": (
        "type && type != 'post_call_audio' && data.conversation_id && data.agent_id",
        "conversation_id && agent_id && (metadata.start_time_unix_secs || analysis)",
    ),
    "elevenlabs-audio": ("type == 'post_call_audio' && data.full_audio",),
    "freeswitch-cdr": ('"core-uuid" && variables', "variables.uuid && (callflow || channel_data || variables.hangup_cause)"),
    "livekit": ("chat_history.items || chatHistory.items || history.items",),
    "livekit-egress": ("egressInfo || egress_info", "starts_with(egress_id || egressId, 'EG_')"),
    "openai-realtime": (
        "type && (starts_with(type, 'session.') || starts_with(type, 'conversation.') || starts_with(type, 'response.') "
        "|| starts_with(type, 'input_audio_buffer.'))",
    ),
    "pipecat": (),
    "retell": (
        "call.call_id && (event || call.agent_id)",
        "call_id && agent_id && (transcript_object || transcript_with_tool_calls || call_status)",
    ),
    "telnyx": (
        "starts_with(data.event_type || event_type, 'call.') && !starts_with(data.event_type || event_type, 'call.recording')",
        "conversation_id && messages && (calling_party_type || call_session_id)",
    ),
    "telnyx-recording": (
        "starts_with(data.event_type || event_type, 'call.recording')",
        "recording_urls || public_recording_urls",
    ),
    "tuner": ("transcript_with_tool_calls && call_type && start_timestamp && !agent_id",),
    "twilio-conversationrelay": (
        "type == 'setup' && callSid",
        "(type == 'prompt' && voicePrompt) || (type == 'text' && token) || (type == 'interrupt' && utteranceUntilInterrupt)",
    ),
    "twilio-intelligence": (
        "starts_with(sid, 'GT') || starts_with(transcript.sid, 'GT')",
        "sentences && (meta || transcript_sid || sentences[?media_channel])",
    ),
    "twilio-recording": (
        "RecordingSid || starts_with(sid, 'RE')",
        "(CallSid && CallStatus) || (starts_with(sid, 'CA') && subresource_uris)",
    ),
    "ultravox": (
        "call.callId || (callId && (billedDuration || endReason || joined))",
        "(results || messages.results || messages)[?starts_with(role, 'MESSAGE_ROLE_')]",
    ),
    "vapi": (
        "message.type && (message.call || message.artifact)",
        "(orgId || endedReason) && (artifact || analysis || endedReason)",
    ),
    "vcon": ("vcon || (uuid && parties && (dialog || analysis))", "payload && signatures", "ciphertext && recipients"),
}

SHARED_MARKS: Final[Mapping[str, Sequence[str]]] = {
    "asterisk-recording": ("Uniqueid || uniqueid",),
    "bland": ("call_length && transcripts",),
    "livekit": ("items[?type == 'message' && type(content[0]) == 'string']",),
    "openai-realtime": ("(items || history)[?(type == 'message' && content[0].type) || type == 'function_call_output']",),
    "pipecat": (
        "messages[?role == 'system' || role == 'developer' || role == 'tool' || tool_calls]",
        "(turns || transcript || context.messages)[?(role == 'user' || role == 'assistant') && content && timestamp]",
        "(event == 'call_started' || event == 'call_ended') && ts && !call",
    ),
}
"""Shapes that others make too: a hint where nothing else fits, never proof (rival.py)."""


@record
class Match:
    """How well a preset fits the documents of a file."""

    preset: str
    marked: float
    """Share of documents with a mark that only the platform makes."""
    hinted: float
    """Share of documents with a shape that it shares with others."""
    calls: int
    recordings: int
    ignored: int
    refused: int

    @property
    def score(self) -> float:
        total = max(1, self.calls + self.recordings + self.ignored + self.refused)
        return 4 * self.marked + self.hinted + 2 * (self.calls + self.recordings) / total - self.refused / total

    @property
    def certain(self) -> bool:
        """Without a mark the preset maps it, but nothing says that the platform made it."""
        return self.marked > 0


def recognise(reads: Sequence[Document | RefusedDocument], environ: Mapping[str, str]) -> list[Match]:
    """The presets that fit, best first; empty where none does."""
    looked_at = reads[:_LOOKED_AT]
    documents = [one for one in looked_at if isinstance(one, Document)]
    if not documents:
        return []
    found = [match for name in presets.names() if (match := _match(name, documents, environ)) is not None]
    return sorted(found, key=lambda match: -match.score)


def compiled_preset(name: str, environ: Mapping[str, str]) -> CompiledSource:
    """The compiled preset, with a placeholder for each variable that it cannot do without."""
    return _compiled(name, tuple(sorted(environ.items())))


@lru_cache(maxsize=128)
def _compiled(name: str, environ: tuple[tuple[str, str], ...]) -> CompiledSource:
    info = preset_info(name)
    wanted = () if info.needs_audio is not None else info.environment
    return compile_preset(name, dict.fromkeys(wanted, PLACEHOLDER) | dict(environ), None)


def _match(name: str, documents: Sequence[Document], environ: Mapping[str, str]) -> Match | None:
    marked = _share(_compiled_marks(*MARKS.get(name, ())), documents)
    hinted = _share(_compiled_marks(*SHARED_MARKS.get(name, ())), documents)
    if not marked and not hinted and name in MARKS:
        return None
    compiled = compiled_preset(name, environ)
    calls = recordings = ignored = refused = 0
    for unit in units(compiled, documents):
        made = mapped(compiled, unit)
        calls += made.call is not None
        recordings += made.recording is not None
        ignored += made.ignored is not None
        refused += made.refused is not None
    match = Match(preset=name, marked=marked, hinted=hinted, calls=calls, recordings=recordings, ignored=ignored, refused=refused)
    return match if marked or hinted or calls or recordings else None


def _share(marks: Sequence[Run], documents: Sequence[Document]) -> float:
    return sum(any(_holds(mark, one.value) for mark in marks) for one in documents) / len(documents)


@lru_cache(maxsize=128)
def _compiled_marks(*marks: str) -> tuple[Run, ...]:
    return tuple(compile_item(text).run for text in marks)


def _holds(mark: Run, value: Any) -> bool:
    try:
        return true(mark(value))
    except (RuleError, RecursionError):
        return False
