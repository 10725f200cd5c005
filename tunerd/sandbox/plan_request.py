"""The words of the control endpoint, `POST /_sandbox/plan` with a JSON object: every setting of Faults by its name, and

- `next`: planned answers for the requests to come, in order: `503` (a status), `{"status": 429, "retry_after": 2}`,
  `{"redirect": "http://..."}`, `"ordinary"`, `"lose"`, `"hold"`, `"hang"`, `"reset"`, `"garbage"`, `"lose_target"`,
  `"decline_target"`
- `next_upload`: the same for the uploads to come
- `call_id`: the plan is for this call alone
- `clear: true`: forget what was planned before
- `release: true`: let go of everything that `"hold"` keeps open

A body with a mistake changes nothing. Settings that are not named stay.
"""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunerd.sandbox.faults import (
    DeclineTarget,
    Faults,
    FixedAnswer,
    Garbage,
    Hang,
    HoldAnswer,
    LoseAnswer,
    LoseTarget,
    Ordinary,
    Planned,
    Redirect,
    Reset,
)

_Status = Annotated[int, Field(ge=200, le=599)]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    status: _Status
    retry_after: int | str | None = None
    body: str | None = None
    content_type: str = "application/json"


class _Redirect(BaseModel):
    model_config = ConfigDict(extra="forbid")
    redirect: str
    status: Annotated[int, Field(ge=300, le=399)] = 307


_Word = Literal["ordinary", "lose", "hold", "hang", "reset", "garbage", "lose_target", "decline_target"]
_Next = tuple[_Status | _Word | _Answer | _Redirect, ...]


class PlanRequest(Faults):
    """What one control request says. Faults' own fields count only where they were named."""

    next: _Next = ()
    next_upload: _Next = ()
    call_id: str | None = None
    clear: bool = False
    release: bool = False

    def changed(self, faults: Faults) -> Faults:
        """The settings after this request."""
        named: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set if name in Faults.model_fields}
        return faults.model_copy(update=named)

    def planned(self, release: asyncio.Event) -> list[Planned]:
        """The plan; whatever is held waits for `release`."""
        return [_planned(item, release) for item in self.next]

    def planned_uploads(self, release: asyncio.Event) -> list[Planned]:
        return [_planned(item, release) for item in self.next_upload]


def read_plan_request(body: bytes) -> PlanRequest | list[str]:
    """A PlanRequest, or what is wrong with the body, a sentence each."""
    try:
        return PlanRequest.model_validate_json(body)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False, include_input=False)
        return [f"{'.'.join(map(str, error['loc'])) or 'body'}: {error['msg']}" for error in errors]


def _planned(item: "int | _Word | _Answer | _Redirect", release: asyncio.Event) -> Planned:
    match item:
        case int():
            return FixedAnswer(item)
        case _Answer():
            body = None if item.body is None else item.body.encode()
            return FixedAnswer(item.status, item.retry_after, body, item.content_type)
        case _Redirect():
            return Redirect(item.redirect, item.status)
        case "hold":
            return HoldAnswer(release)
        case word:
            return _PLAIN[word]


_PLAIN: Final[Mapping[str, Planned]] = {
    "ordinary": Ordinary(), "lose": LoseAnswer(), "hang": Hang(), "reset": Reset(), "garbage": Garbage(),
    "lose_target": LoseTarget(), "decline_target": DeclineTarget(),
}  # fmt: skip
"""What needs nothing but its word."""
