"""The names that rules may give values to, with a sentence each, for the JSON Schema: an editor completes and checks them.

What they do stands in mapping/, which may not be imported here; a test holds the two together.
"""

from collections.abc import Mapping
from typing import Final

CALL_FIELDS: Final[Mapping[str, str]] = {
    "call_id": "The call's id, 1 to 200 characters. Required.",
    "call_type": "What kind of call: phone_call, web_call, sip_call, ... Required.",
    "start_timestamp": "When the call began, in any time form.",
    "end_timestamp": "When the call ended, in any time form.",
    "transcript_with_tool_calls": "What was said and done: blocks that give rows. Required.",
    "duration_ms": "Length in milliseconds.",
    "agent_version": "A number.",
    "call_cost": "Cents.",
    "call_successful": "True or false.",
    "in_voicemail": "True or false.",
    "user_sentiment": "positive, neutral, negative or unknown.",
    "caller_phone_number": "The caller's number.",
    "disconnection_reason": "Why the call ended, at most 100 characters.",
    "call_status": "How the call stands, as text.",
    "sip_call_id": "The id of the SIP dialog.",
    "recipient": "Who was called.",
    "transcript": "The whole of it as one text.",
    "recording_multi_channel_url": "Where a recording with a channel for each speaker is.",
    "call_analysis": "An object.",
    "metadata": "An object of your own.",
    "collected_dynamic_variables": "An object.",
    "general_meta_data_raw": "An object.",
    "sip_headers": "An object of header names and values.",
    "recording_file_extension": "Tuner's own name for it, passed on.",
    "recording_s3_multi_channel": "Tuner's own name for it, passed on.",
    "recording_s3_caller_channel": "Tuner's own name for it, passed on.",
}
MANIFEST_FIELDS: Final[Mapping[str, str]] = {
    "key": "What calls look for. Required.",
    "id": "Which recording it is: the same id again is the same recording told again, and the newer telling wins.",
    "url": "Where the audio is. Required, unless absent_when says that there is none.",
    "started_at": "When the recording began, in any time form.",
    "duration_ms": "Length in milliseconds.",
    "expires_at": "From when on the URL does not work, in any time form.",
    "absent_when": "True: there will never be a recording.",
}
ROW_MEMBERS: Final[Mapping[str, str]] = {
    "role": "agent, user, agent_function, agent_result or node_transition; without one it is no row.",
    "text": "What was said; a list of texts is joined.",
    "start_at": "When it began, in any time form.",
    "end_at": "When it ended, in any time form.",
    "start_ms": "When it began, in milliseconds from the start of the call.",
    "end_ms": "When it ended, in milliseconds from the start of the call.",
    "duration_ms": "Length in milliseconds.",
    "words": "A list of {word, start_ms, end_ms, confidence}.",
    "tool": "A tool that was called, or what it answered.",
    "node": "A step of a flow.",
    "more": "True: the text goes on in the next row of this role.",
    "metadata": "An object of your own.",
}
TOOL_MEMBERS: Final[Mapping[str, str]] = {
    "name": "The tool's name.",
    "request_id": "What joins a call of a tool with its answer.",
    "params": "Its arguments: an object, or JSON text of one.",
    "result": "What it answered.",
    "is_error": "True: it failed.",
    "error": "Why it failed, as text.",
    "start_ms": "When, in milliseconds from the start of the call.",
}
NODE_MEMBERS: Final[Mapping[str, str]] = {
    "from": "The step before.",
    "to": "The step that begins.",
    "reason": "Why.",
}
