"""What a traced run writes down: which rule gave what, where it failed, what each function got and gave. Pure data.

The bare run, which every document takes first, knows nothing of this.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tunerd.mapping.expressions import WatchCall
from tunerd.mapping.functions import Function, Run
from tunerd.mapping.values import InexactError, RuleError, missing
from tunerd.record import positional_record
from tunerd.yaml_location import YamlLocation

TRACE_SLOT: Final = 0
"""Where a traced run finds its Trace among the slots."""
_SAMPLES: Final = 3
_UNKNOWN_KEYS: Final = 20


@positional_record
class RuleRef:
    """One rule of a mapping."""

    path: str
    """`call.transcript_with_tool_calls.rows[2].start_ms`"""
    location: YamlLocation
    text: str
    """The expression as written; for other forms a word for what it is."""

    def __str__(self) -> str:
        return f"{self.path} ({location_text(self.location)})"


def location_text(location: YamlLocation) -> str:
    """`line 31`; in a preset also which."""
    return f"{location.file}, line {location.line}" if location.file.startswith("preset ") else f"line {location.line}"


class Misfit(Exception):
    """A rule failed, and it is known which."""

    def __init__(self, step: RuleRef, function: str, what: str, *, inexact: bool = False) -> None:
        super().__init__(f"{step}: {function}{': ' if function else ''}{what}")
        self.step = step
        self.function = function
        self.what = what
        self.inexact = inexact
        """A number that may have lost digits would have become an identity: no fallback makes up for that."""

    @property
    def told(self) -> str:
        return f"{self.function}: {self.what}" if self.function else self.what


@dataclass(slots=True)
class CallTrace:
    """How one function call of one rule went."""

    function: str
    calls: int = 0
    nulls: int = 0
    samples: list[tuple[list[Any], Any]] = field(default_factory=list)
    """The first few: arguments and answer."""
    unknown: dict[str, int] = field(default_factory=dict)
    """For lookup and classify: what they were asked for and did not know, and how often."""


@dataclass(slots=True)
class RuleTrace:
    """How one rule went, over all the items it ran for: a let, an entry of a list, a member of a block."""

    ref: RuleRef
    runs: int = 0
    """How often it was evaluated; 0: not reached (or constant)."""
    missing: int = 0
    """How often it gave nothing."""
    value: Any = None
    """The first value that was not missing."""
    error: str | None = None
    items: int = 0
    """Of a block with for_each: items."""
    rows: int = 0
    """Of a block with for_each or rows: rows it gave."""
    calls: dict[int, CallTrace] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return self.ref.path


class Trace:
    """What one run wrote down: every rule, in the order of the configuration."""

    def __init__(self, refs: Sequence[RuleRef]) -> None:
        self.rules = [RuleTrace(ref) for ref in refs]
        """By the rule's number."""
        self.left_out: list[Misfit] = []


def traced(run: Run, number: int, step: RuleRef) -> Run:
    """Wraps a rule to record its values and to locate its errors: any error becomes a Misfit that names the place."""

    def watched(slots: Any) -> Any:
        trace = slots[TRACE_SLOT].rules[number]
        try:
            value = run(slots)
        except Misfit:
            raise
        except RuleError as error:
            trace.error = str(error)
            raise Misfit(step, error.function, error.what, inexact=isinstance(error, InexactError)) from None
        except RecursionError:
            trace.error = "nested too deep"
            raise Misfit(step, "", "the value is nested too deep") from None
        except Exception as error:  # a document can hold anything; the error names the rule
            trace.error = type(error).__name__
            raise Misfit(step, "", f"the value can't be worked on ({type(error).__name__})") from None
        trace.runs += 1
        if missing(value):
            trace.missing += 1
        elif trace.value is None:
            trace.value = value
        return value

    return watched


def optional(run: Run) -> Run:
    """A member that is left out, and noted, when its rule fails."""

    def lenient(slots: Any) -> Any:
        try:
            return run(slots)
        except Misfit as misfit:
            slots[TRACE_SLOT].left_out.append(misfit)
            return None

    return lenient


def watching(number: int) -> WatchCall:
    """Notes what the calls of step `number` got and gave."""
    count = 0

    def watch(function: Function, run: Run, runs: Sequence[Run]) -> Run:
        nonlocal count
        position, count = count, count + 1

        def watched(slots: Any) -> Any:
            value = run(slots)
            trace: RuleTrace = slots[TRACE_SLOT].rules[number]
            call = trace.calls.setdefault(position, CallTrace(function.name))
            call.calls += 1
            if value is None:
                call.nulls += 1
            if len(call.samples) < _SAMPLES:
                got = [_argument(runs[n], slots) for n in range(len(runs)) if n not in function.expressions]
                call.samples.append((got, value))
            if value is None and function.name in ("lookup", "classify"):
                _note_unknown(call, runs[0], slots)
            return value

        return watched

    return watch


def _argument(run: Run, slots: Any) -> Any:
    """What the call got. An argument that the call did not ask for, because one before it was null, may be one that fails."""
    try:
        return run(slots)
    except (RuleError, Misfit) as error:
        return f"({error})"


def _note_unknown(call: CallTrace, key: Callable[[Any], Any], slots: Any) -> None:
    asked = key(slots)
    if asked is not None and asked.__class__ not in (dict, list):
        name = str(asked)[:80]
        if name in call.unknown or len(call.unknown) < _UNKNOWN_KEYS:
            call.unknown[name] = call.unknown.get(name, 0) + 1
