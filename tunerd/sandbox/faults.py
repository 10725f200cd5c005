"""What goes wrong on purpose: the ways the sandbox can end a request, and the settings that choose among them.

Only decisions belong here: the random source and the time are passed in, server.py carries out what was decided.
"""

import asyncio
import random
import re
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tunerd.record import positional_record

# --- one request --------------------------------------------------------------------------------------------------


@positional_record
class FixedAnswer:
    """Answers with this status and does not look at the request; nothing is accepted. For 204 and 304 the body is left out."""

    status: int
    retry_after: int | str | None = None
    """Seconds, or an HTTP date; goes out as it is."""
    body: bytes | None = None
    """None: `{"success": false, "error": "..."}`."""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@positional_record
class Ordinary:
    """Does what the sandbox does without a plan; the place keeper in a row of planned answers."""


@positional_record
class LoseAnswer:
    """Does the ordinary thing (accepts the call, if it is good), then drops the connection instead of answering."""


@positional_record
class HoldAnswer:
    """Does the ordinary thing and records it, but the answer goes out only when `release` is set (or the sandbox stops)."""

    release: asyncio.Event


@positional_record
class Hang:
    """Never answers and accepts nothing; drops the connection when `until` is set, the client leaves or the sandbox stops."""

    until: asyncio.Event | None = None


@positional_record
class Reset:
    """Resets the connection (RST) as soon as the body was read; accepts nothing."""


@positional_record
class Redirect:
    """Sends the client elsewhere; accepts nothing."""

    url: str
    status: int = 307


@positional_record
class Garbage:
    """A 200 with a page in the place of JSON, as a captive portal or a wrong proxy gives; accepts nothing."""

    body: bytes = b"<html><body>Welcome to the guest network</body></html>"
    content_type: str = "text/html"
    status: int = 200


@positional_record
class LoseTarget:
    """Does the ordinary thing; if the answer has an upload target, it drops the connection instead of answering."""


@positional_record
class DeclineTarget:
    """Accepts a good call without giving the upload target that it asks for."""


Planned: TypeAlias = (
    FixedAnswer | Ordinary | LoseAnswer | HoldAnswer | Hang | Reset | Redirect | Garbage | LoseTarget | DeclineTarget
)


class Plans:
    """Planned ends of requests to come, each used once."""

    def __init__(self) -> None:
        self._of_any: deque[Planned] = deque()
        self._of_call: defaultdict[str, deque[Planned]] = defaultdict(deque)

    def add(self, answers: Iterable[Planned], call_id: str | None) -> None:
        (self._of_any if call_id is None else self._of_call[call_id]).extend(answers)

    def take(self, call_id: str | None) -> Planned | None:
        """The next one; those of the call itself come first. None: nothing is planned."""
        if call_id is not None and (own := self._of_call.get(call_id)):
            return own.popleft()
        return self._of_any.popleft() if self._of_any else None

    def clear(self) -> None:
        self._of_any.clear()
        self._of_call.clear()

    def __len__(self) -> int:
        return len(self._of_any) + sum(map(len, self._of_call.values()))


# --- settings -----------------------------------------------------------------------------------------------------


def parse_fail(texts: Iterable[str]) -> dict[str, float]:
    """`503:0.2`, `reset:0.05` -> {"503": 0.2, "reset": 0.05}; without a share: always. ValueError with what to write."""
    shares: dict[str, float] = {}
    for text in texts:
        what, _, share = text.partition(":")
        if what not in ("reset", "timeout", "garbage") and re.fullmatch(r"[2-5]\d\d", what) is None:
            raise ValueError(f"{what!r} cannot fail; write an HTTP status, reset, timeout or garbage")
        try:
            shares[what] = float(share) if share else 1.0
        except ValueError:
            shares[what] = -1.0
        if not 0.0 <= shares[what] <= 1.0:
            raise ValueError(f"{share!r} is no share; write a number from 0 to 1, as in {what}:0.2")
    return _not_over_one(shares)


def _not_over_one(shares: dict[str, float]) -> dict[str, float]:
    if sum(shares.values()) > 1.0 + 1e-9:
        raise ValueError("the shares add up to more than 1")
    return shares


_Share = Annotated[float, Field(ge=0, le=1)]
_Seconds = Annotated[float, Field(ge=0)]
_Failure = Annotated[str, Field(pattern=r"^([2-5]\d\d|reset|timeout|garbage)$")]


class Faults(BaseModel):
    """The standing settings. They may be changed while the sandbox runs; the control endpoint takes these very names."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    fail: Annotated[dict[_Failure, _Share], AfterValidator(_not_over_one)] = {}
    """Status, `reset`, `timeout` or `garbage` -> share of the requests that end so; the shares add up to 1 at most."""
    lose_answers: _Share = 0.0
    """Share of the requests that are dealt with and then not answered."""
    latency_s: _Seconds = 0.0
    """Between deciding and answering."""
    jitter_s: _Seconds = 0.0
    """At most this is added to or taken from the latency, evenly."""
    retry_after: int | str | None = None
    """Goes with 429 and 503 that are not planned with one of their own."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """With more requests in flight than these, the answer is 429."""
    rate: Annotated[float, Field(gt=0)] | None = None
    """With more requests a second than these, the answer is 429."""
    require_key: str | tuple[str, ...] | None = None
    """The good key or keys; None: any key is good."""
    forbid_agents: tuple[str, ...] = ()
    """Agents that are answered 403."""
    reject: Literal[400, 422] = 422
    """The status of a body that the form does not take."""
    max_body_bytes: Annotated[int, Field(ge=1)] = 16 * 1024 * 1024
    """A longer body is answered 413."""
    lose_targets: _Share = 0.0
    """Share of the answers with an upload target that are not sent (the call was accepted)."""
    decline_targets: _Share = 0.0
    """Share of the accepted calls that ask for an upload target and get none."""
    target_expires_s: _Seconds = 3600.0
    """How long an upload target is valid; 0: it expires at once."""
    max_upload_bytes: Annotated[int, Field(ge=1)] = 1024**3
    """The largest file that an upload target allows."""
    upload_status: Literal[200, 201, 204] = 204
    """What the storage answers to a file that it stored."""
    fail_uploads: Annotated[dict[_Failure, _Share], AfterValidator(_not_over_one)] = {}
    """As `fail`, for uploads to the storage."""
    lose_upload_answers: _Share = 0.0
    """Share of the uploads that are stored and then not answered."""

    def is_good(self, key: str) -> bool:
        if self.require_key is None:
            return True
        return key == self.require_key if isinstance(self.require_key, str) else key in self.require_key

    def draw(self, chance: random.Random) -> Planned:
        """What becomes of the next request that nothing is planned for."""
        drawn = _draw(self.fail, self.lose_answers, chance)
        if isinstance(drawn, Ordinary) and self.decline_targets and chance.random() < self.decline_targets:
            return DeclineTarget()
        if isinstance(drawn, Ordinary) and self.lose_targets and chance.random() < self.lose_targets:
            return LoseTarget()
        return drawn

    def draw_upload(self, chance: random.Random) -> Planned:
        """What becomes of the next upload that nothing is planned for."""
        return _draw(self.fail_uploads, self.lose_upload_answers, chance)

    def delay_s(self, chance: random.Random) -> float:
        if not self.jitter_s:
            return self.latency_s
        return max(0.0, self.latency_s + chance.uniform(-self.jitter_s, self.jitter_s))


def _draw(fail: Mapping[str, float], lose: float, chance: random.Random) -> Planned:
    if not fail and not lose:
        return Ordinary()
    point = chance.random()
    for what, share in fail.items():
        if point < share:
            return _failure(what)
        point -= share
    # Drawn anew, so that the share is one of the requests that do not fail otherwise.
    return LoseAnswer() if chance.random() < lose else Ordinary()


def _failure(what: str) -> Planned:
    match what:
        case "reset":
            return Reset()
        case "timeout":
            return Hang()
        case "garbage":
            return Garbage()
        case _:
            return FixedAnswer(int(what))


class Bucket:
    """A token bucket that holds a tenth of a second's worth (at least one): `take(now)` says whether a request may pass."""

    def __init__(self) -> None:
        self._tokens = 1.0
        self._at = 0.0

    def take(self, rate: float, now: float) -> bool:
        """`now` in seconds on a clock that never goes back."""
        self._tokens = min(max(1.0, rate / 10), self._tokens + (now - self._at) * rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
