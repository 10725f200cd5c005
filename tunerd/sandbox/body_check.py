"""What Tuner's two request forms demand of a body, written down a second time, apart from tunerd.mapping on purpose.

Strict where Tuner is known or supposed to be: types are never converted; an unknown top-level field is refused in both
forms (a typo would else go unseen), further keys of a row only in send-calls, whose table has none; sentiment is the closed
list; `end_timestamp` before `start_timestamp` is refused by create-call. Lenient where Tuner is: a row that ends before it
starts, a tool row without `tool`, null in an optional field of create-call. An empty required text or list is refused by both.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from tunerd.call import Form
from tunerd.record import record

_MAX_PROBLEMS: Final = 20
"""Shown for one body; a thousand untimed rows are one mistake."""

_Number = int | float
_Object = dict[str, object]
_Sentiment = Literal["positive", "neutral", "negative", "unknown"]
_Filled = Annotated[str, Field(min_length=1)]


@record
class FieldProblem:
    """One thing that is wrong with a body. Never quotes a value."""

    field: str
    """`transcript_with_tool_calls[3].tool.params`; empty: the body as a whole."""
    problem: str


@record
class Judged:
    """A body as the sandbox read it. `problems` empty: the form takes it."""

    problems: tuple[FieldProblem, ...]
    not_json: bool = False
    call_id: str | None = None
    rows: int | None = None
    recording_url: str | None = None
    extension: str | None = None
    """`recording_file_extension`: the call asks for an upload target."""


class _Part(BaseModel):
    """Rows and their parts: further keys are let through."""

    model_config = ConfigDict(strict=True, extra="ignore")


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Message(_Body):
    role: _Filled
    content: str


class _SendCalls(_Body):
    call_id: _Filled
    call_type: _Filled
    transcript_with_tool_calls: Annotated[list[_Message], Field(min_length=1)]
    start_timestamp: int
    end_timestamp: int
    recording_url: _Filled
    userSentiment: _Sentiment = "unknown"


class _Word(_Part):
    word: str
    start_ms: int
    end_ms: int
    confidence: _Number | None = None


class _Tool(_Part):
    name: str | None = None
    request_id: str | None = None
    params: _Object | None = None
    result: _Object | None = None
    is_error: bool | None = None
    error: str | None = None
    start_ms: int | None = None


class _Node(_Part):
    from_: str = Field(alias="from")
    to: str
    reason: str | None = None


class _Row(_Part):
    role: Literal["user", "agent", "agent_function", "agent_result", "node_transition"]
    text: str | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    duration_ms: int | None = None
    words: list[_Word] | None = None
    tool: _Tool | None = None
    node: _Node | None = None
    metadata: _Object | None = None

    @model_validator(mode="after")
    def _speech_is_timed(self) -> "_Row":
        if self.role not in ("user", "agent") or self.words:
            return self
        if self.start_ms is None or (self.end_ms is None and self.duration_ms is None):
            raise PydanticCustomError(
                "untimed", "a user or agent row needs words, start_ms with end_ms, or start_ms with duration_ms"
            )
        return self


class _CreateCall(_Body):
    call_id: Annotated[str, Field(min_length=1, max_length=200)]
    call_type: Annotated[str, Field(min_length=1, max_length=100)]
    transcript_with_tool_calls: Annotated[list[_Row], Field(min_length=1)]
    start_timestamp: int
    end_timestamp: int
    recording_url: Annotated[str, Field(min_length=1, max_length=1024)]
    recording_multi_channel_url: Annotated[str, Field(max_length=1024)] | None = None
    user_sentiment: _Sentiment | None = None
    duration_ms: _Number | None = None
    agent_version: Annotated[_Number, Field(ge=0)] | None = None
    call_cost: _Number | None = None
    call_status: Annotated[str, Field(max_length=100)] | None = None
    disconnection_reason: Annotated[str, Field(max_length=100)] | None = None
    caller_phone_number: Annotated[str, Field(max_length=50)] | None = None
    call_successful: bool | None = None
    in_voicemail: bool | None = None
    transcript: str | None = None
    collected_dynamic_variables: _Object | None = None
    call_analysis: _Object | None = None
    metadata: _Object | None = None
    general_meta_data_raw: _Object | None = None
    llm_trace: _Object | None = None
    """In no published table; Tuner's own SDK has it."""
    sip_call_id: str | None = None
    sip_headers: _Object | None = None
    recipient: str | None = None
    # The types of the next three are those of Tuner's own SDK; no published page states them.
    recording_file_extension: Annotated[str, Field(pattern="^[A-Za-z0-9]{1,10}$")] | None = None
    recording_s3_multi_channel: bool | None = None
    recording_s3_caller_channel: Annotated[int, Field(ge=0)] | None = None

    @field_validator("end_timestamp")
    @classmethod
    def _not_before_start(cls, end: int, info: ValidationInfo) -> int:
        start = info.data.get("start_timestamp")
        if start is not None and end < start:
            raise PydanticCustomError("end_before_start", "is before start_timestamp")
        return end


_MODELS: Final[Mapping[Form, type[BaseModel]]] = {Form.SEND_CALLS: _SendCalls, Form.CREATE_CALL: _CreateCall}


def judge(form: Form | None, body: bytes) -> Judged:
    """Read a body (not compressed) and hold it against its form; with None it is only read."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Judged(problems=(FieldProblem(field="", problem="the body is not JSON"),), not_json=True)
    if not isinstance(value, dict):
        return Judged(problems=(FieldProblem(field="", problem="the body must be a JSON object"),), not_json=True)
    call_id, rows, url = (value.get(name) for name in ("call_id", "transcript_with_tool_calls", "recording_url"))
    extension = value.get("recording_file_extension")
    problems: tuple[FieldProblem, ...] = ()
    if form is not None:
        try:
            _MODELS[form].model_validate(value)
        except ValidationError as exc:
            problems = _problems(exc)
    return Judged(
        problems=problems,
        call_id=call_id if isinstance(call_id, str) else None,
        rows=len(rows) if isinstance(rows, list) else None,
        recording_url=url if isinstance(url, str) else None,
        extension=extension if isinstance(extension, str) else None,
    )


def _problems(exc: ValidationError) -> tuple[FieldProblem, ...]:
    found: dict[str, str] = {}
    for error in exc.errors(include_url=False, include_context=False, include_input=False):
        # A union gives an error for each member, told apart by a last part that is no key: one is enough.
        found.setdefault(
            _path(error["loc"]), "is not a field of this form" if error["type"] == "extra_forbidden" else error["msg"]
        )
    return tuple(FieldProblem(field=field, problem=problem) for field, problem in list(found.items())[:_MAX_PROBLEMS])


_UNION_MEMBERS: Final = frozenset({"int", "float", "bool", "str", "constrained-int", "constrained-float"})


def _path(loc: tuple[int | str, ...]) -> str:
    path = ""
    for index, part in enumerate(loc):
        if isinstance(part, int):
            path += f"[{part}]"
        elif index and index == len(loc) - 1 and part in _UNION_MEMBERS:
            break
        else:
            path += f".{part}" if path else part
    return path
