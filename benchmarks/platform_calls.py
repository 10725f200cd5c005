"""Made calls of about 126 rows in the shape that Vapi, Retell and ElevenLabs give them: speech with word times where the
platform has them, tool calls and results, node transitions. The content is our own; the same call gives the same document."""

from typing import Any

from benchmarks.made import WORDS

START_MS = 1_767_225_600_000
TURNS = 42
_TOOLS = 21
"""How many turns of the agent call a tool."""


def _sentence(turn: int, length: int) -> list[str]:
    return [WORDS[(turn * 3 + word) % len(WORDS)] for word in range(length)]


def vapi(turns: int = TURNS) -> dict[str, Any]:
    """An end-of-call report: the caller's words have times, tools answer with JSON text."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "message": "You answer the phone of a town library.", "time": START_MS, "secondsFromStart": 0}
    ]
    for turn in range(turns):
        at = round(1.2 + turn * 9.37, 3)
        said = _sentence(turn, 14)
        messages.append(
            {
                "role": "bot",
                "message": " ".join(said),
                "time": START_MS + int(at * 1000),
                "endTime": START_MS + int(at * 1000) + 3900,
                "secondsFromStart": at,
                "duration": 3900,
                "source": "",
            }
        )
        asked = _sentence(turn + 7, 8)
        at = round(at + 4.4, 3)
        words = [
            {
                "word": word,
                "start": round(at + 0.3 * n, 3),
                "end": round(at + 0.3 * n + 0.27, 3),
                "confidence": 0.98,
                "punctuated_word": word.capitalize() if n == 0 else word,
            }
            for n, word in enumerate(asked)
        ]
        messages.append(
            {
                "role": "user",
                "message": " ".join(asked),
                "time": START_MS + int(at * 1000),
                "endTime": START_MS + int(at * 1000) + 2400,
                "secondsFromStart": at,
                "duration": 2400,
                "metadata": {"wordLevelConfidence": words},
            }
        )
        if turn * _TOOLS // turns != (turn + 1) * _TOOLS // turns:
            at = round(at + 2.6, 3)
            identity = f"call_{turn:04d}"
            function = {"name": "find_book", "arguments": f'{{"title":"{said[0]}","branch":{turn}}}'}
            messages.append(
                {
                    "role": "tool_calls",
                    "toolCalls": [{"id": identity, "type": "function", "function": function}],
                    "message": "",
                    "time": START_MS + int(at * 1000),
                    "secondsFromStart": at,
                }
            )
            at = round(at + 0.8, 3)
            messages.append(
                {
                    "role": "tool_call_result",
                    "name": "find_book",
                    "toolCallId": identity,
                    "result": f'{{"shelf":{turn},"free":true}}',
                    "time": START_MS + int(at * 1000),
                    "secondsFromStart": at,
                }
            )
    report = {
        "timestamp": START_MS + 500_000,
        "type": "end-of-call-report",
        "endedReason": "customer-ended-call",
        "startedAt": "2026-01-01T00:00:00.000Z",
        "endedAt": "2026-01-01T00:08:00.412Z",
        "cost": 0.5713,
        "costBreakdown": {"stt": 0.0052, "llm": 0.2077, "tts": 0.3584, "total": 0.5713},
        "durationMs": 480_412,
        "analysis": {"summary": "The caller kept many books.", "successEvaluation": "true", "structuredData": {"books": 25}},
        "artifact": {
            "messages": messages,
            "recordingUrl": "https://audio.example/vapi/1.wav",
            "stereoRecordingUrl": "https://audio.example/vapi/1-stereo.wav",
            "recording": {
                "stereoUrl": "https://audio.example/vapi/1-stereo.wav",
                "mono": {"combinedUrl": "https://audio.example/vapi/1.wav"},
            },
            "variableValues": {"branch": "north"},
            "presignedMonoUrl": "https://bucket.example/vapi/1.wav?signature=made",
            "presignedUrlsExpiresAt": "2026-01-01T01:00:00.000Z",
        },
        "call": {
            "id": "019d0000-0000-7000-8000-000000000001",
            "createdAt": "2025-12-31T23:59:55.100Z",
            "type": "inboundPhoneCall",
            "status": "ended",
            "customer": {"number": "+15550100"},
        },
    }
    return {"message": report}


def retell(turns: int = TURNS) -> dict[str, Any]:
    """A call_analyzed webhook: every word has times, results do not name their tool, now and then the node changes."""
    said: list[dict[str, Any]] = []
    for turn in range(turns):
        at = round(0.5 + turn * 9.4, 3)
        if turn % 12 == 0:
            nodes = {"former_node_id": f"n{turn - 12}", "former_node_name": f"Step {turn - 12}" if turn else "Begin"}
            said.append(
                {
                    "role": "node_transition",
                    **nodes,
                    "new_node_id": f"n{turn}",
                    "new_node_name": f"Step {turn}",
                    "transition_type": "normal",
                    "time_sec": round(at - 0.2, 3),
                }
            )
        for role, length, later in (("agent", 12, 0.0), ("user", 8, 4.2)):
            spoken = _sentence(turn + length, length)
            words = [
                {
                    "word": word + " ",
                    "start": round(at + later + 0.3 * n, 3),
                    "end": round(at + later + 0.3 * n + 0.25, 3),
                }
                for n, word in enumerate(spoken)
            ]
            said.append({"role": role, "content": " ".join(spoken), "words": words})
        if turn * _TOOLS // turns != (turn + 1) * _TOOLS // turns:
            identity = f"tool_call_{turn:04d}"
            said.append(
                {
                    "role": "tool_call_invocation",
                    "tool_call_id": identity,
                    "name": "find book",
                    "arguments": f'{{"title":"{WORDS[turn % len(WORDS)]}"}}',
                    "type": "custom",
                    "time_sec": round(at + 6.8, 3),
                }
            )
            said.append(
                {
                    "role": "tool_call_result",
                    "tool_call_id": identity,
                    "content": f'{{"success":true,"data":{{"shelf":{turn}}}}}',
                    "successful": True,
                    "time_sec": round(at + 7.4, 3),
                }
            )
    call = {
        "call_type": "phone_call",
        "call_id": "call_0000000000000000000000000b1",
        "agent_id": "agent_00000000000000000000000b2",
        "agent_name": "Library desk",
        "agent_version": 3,
        "call_status": "ended",
        "direction": "inbound",
        "from_number": "+15550100",
        "to_number": "+15550101",
        "telephony_identifier": {"twilio_call_sid": "CA00000000000000000000000000000000"},
        "metadata": {"reader": "r-881"},
        "retell_llm_dynamic_variables": {"reader_name": "Example"},
        "collected_dynamic_variables": {"current_node": "Reserve"},
        "custom_sip_headers": {"X-Reader": "r-881"},
        "start_timestamp": START_MS,
        "end_timestamp": START_MS + 480_000,
        "duration_ms": 480_000,
        "transcript_with_tool_calls": said,
        "recording_url": "https://audio.example/retell/1.wav",
        "recording_multi_channel_url": "https://audio.example/retell/1-multi.wav",
        "disconnection_reason": "user_hangup",
        "latency": {"e2e": {"p50": 1110, "num": 50}, "llm": {"p50": 800, "num": 50}},
        "call_cost": {"combined_cost": 148.2, "total_duration_seconds": 480},
        "call_analysis": {
            "call_summary": "The caller kept many books.",
            "in_voicemail": False,
            "user_sentiment": "Positive",
            "call_successful": True,
            "custom_analysis_data": {"books": 25},
        },
    }
    return {"event": "call_analyzed", "call": call}


def elevenlabs(turns: int = TURNS) -> dict[str, Any]:
    """A post_call_transcription webhook: no words, tools inside the agent's turns, one call in five fails."""
    transcript: list[dict[str, Any]] = []

    def add(role: str, message: str | None, at: float, **more: Any) -> None:
        transcript.append(
            {
                "role": role,
                "agent_metadata": None,
                "message": message,
                "multivoice_message": None,
                "tool_calls": [],
                "tool_results": [],
                "feedback": None,
                "llm_override": None,
                "time_in_call_secs": int(at),
                "conversation_turn_metrics": None,
                "rag_retrieval_info": None,
                "llm_usage": None,
                "interrupted": False,
                "original_message": None,
                "source_medium": "audio" if role == "user" else None,
                "id": f"t{len(transcript)}",
                "created_at_unix_ms": START_MS + int(at * 1000),
                **more,
            }
        )

    for turn in range(turns):
        at = 0.42 + turn * 9.4
        said = " ".join(_sentence(turn, 16))
        if turn % 9 == 4:
            add("agent", said[:40], at, interrupted=True, original_message=said)
        else:
            add("agent", said, at)
        add("user", " ".join(_sentence(turn + 7, 8)), at + 4.3)
        if turn * _TOOLS // turns != (turn + 1) * _TOOLS // turns:
            tool = {"type": "webhook", "request_id": f"find_book_{turn:04d}", "tool_name": "find_book"}
            details = {"type": "webhook", "method": "POST", "url": "https://library.example/books", "headers": {}, "body": "{}"}
            arguments = f'{{"title": "{WORDS[turn % len(WORDS)]}"}}'
            called = {**tool, "params_as_json": arguments, "tool_has_been_called": True, "tool_details": details}
            add("agent", None, at + 6.8, tool_calls=[called])
            answer: dict[str, Any] = {"result_value": f'{{"shelf": {turn}}}', "is_error": False, "raw_error_message": ""}
            if turn % 5 == 1:
                answer = {"result_value": "HTTP 502 Bad Gateway", "is_error": True, "raw_error_message": "502 Server Error"}
            result = {**tool, **answer, "tool_has_been_called": True, "tool_latency_secs": 0.6}
            add("agent", None, at + 7.4, tool_results=[result])
    conversation = {
        "agent_id": "agent_01example",
        "conversation_id": "conv_01example",
        "status": "done",
        "transcript": transcript,
        "metadata": {
            "start_time_unix_secs": START_MS // 1000,
            "call_duration_secs": 480,
            "cost": 4296,
            "cost_fiat": 0.4123,
            "phone_call": {
                "type": "sip_trunking",
                "direction": "inbound",
                "agent_number": "+15550101",
                "external_number": "+15550100",
                "call_id": "818e26f8@sip.example.net",
            },
            "termination_reason": "end_call tool was called.",
        },
        "analysis": {
            "data_collection_results": {"sentiment": {"data_collection_id": "sentiment", "value": "Positive"}},
            "call_successful": "success",
            "transcript_summary": "The caller kept many books.",
        },
        "conversation_initiation_client_data": {"dynamic_variables": {"reader_name": "Example"}},
    }
    return {"type": "post_call_transcription", "event_timestamp": START_MS // 1000 + 485, "data": conversation}
