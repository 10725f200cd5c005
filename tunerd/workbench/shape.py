"""The shape of documents that no preset knows: their leaves by path, their lists, and which of them look like a transcript.

This file only looks; propose.py makes rules from what it finds.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from tunerd.record import record

Path: TypeAlias = tuple[str, ...]

_MOST_DEPTH: Final = 5


def words(text: str) -> tuple[str, ...]:
    """The words of a list that is easier to read as text."""
    return tuple(text.split())


_ROLE_KEYS: Final = words("role speaker participant channel who sender author from party user source type direction name label")
_TEXT_KEYS: Final = words("text content message transcript utterance body sentence msg said words value")
_LIST_NAMES: Final = words(
    "transcript message turn utterance conversation segment entries items history dialog said rows events lines"
)
AGENT_WORDS: Final = frozenset(
    words("agent assistant bot ai robot model system_agent output outbound ivr voicebot virtual_agent agent_speech tts operator")
)
USER_WORDS: Final = frozenset(
    words("user caller customer human patient client guest person input inbound lead contact callee user_speech stt consumer")
)
SILENT_WORDS: Final = frozenset(
    words("system developer context metadata event info debug log logs trace internal note error warning status")
)
"""A role that has one of these among its words is nobody's voice: `system-log`."""
_PLAIN_LINE: Final = re.compile(r"^\s*(?P<who>[A-Za-z][\w ]{0,24}): *\S")


def plain(name: str) -> str:
    """`callId`, `call_id`, `Call-ID` -> `callid`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def name_words(name: str) -> list[str]:
    """`callStartDate`, `call_start_date` -> call, start, date."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name)]


def says_start(name: str) -> bool:
    return not _BEGIN_WORDS.isdisjoint(name_words(name))


def says_end(name: str) -> bool:
    return not _END_WORDS.isdisjoint(name_words(name))


_BEGIN_WORDS: Final = frozenset(words("start started starts begin begins began begun onset"))
_END_WORDS: Final = frozenset(words("end ended ends stop stopped finish finished until"))


@dataclass(slots=True)
class Shape:
    """Which values and lists some documents of one kind have, by path."""

    documents: int = 0
    leaves: dict[Path, list[Any]] = field(default_factory=dict)
    """Values that are no lists, by path, of all documents that have them; objects among them."""
    lists: dict[Path, list[Any]] = field(default_factory=dict)
    """Items of lists by path, of all documents together."""

    @classmethod
    def of(cls, values: Iterable[Any]) -> "Shape":
        shape = cls()
        for value in values:
            shape.add(value)
        return shape

    def add(self, value: Any) -> None:
        self.documents += 1
        for path, leaf in _walk(value, ()):
            into = self.lists if isinstance(leaf, list) else self.leaves
            into.setdefault(path, []).extend(leaf if isinstance(leaf, list) else [leaf])

    def first(self, path: Path) -> Any:
        return next((value for value in self.leaves.get(path, ()) if value not in (None, "")), None)


def _walk(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if not isinstance(value, dict):
        return
    for name, member in value.items():
        below = (*path, str(name))
        yield below, member
        if isinstance(member, dict) and len(below) < _MOST_DEPTH:
            yield from _walk(member, below)


@record
class Speech:
    """A list whose items say who said what."""

    path: Path
    items: Sequence[Mapping[str, Any]]
    role: str | None
    text: str
    score: float

    def values(self, name: str) -> list[Any]:
        return [item[name] for item in self.items if item.get(name) not in (None, "")]

    @property
    def roles(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for value in self.values(self.role) if self.role else ():
            found[str(value)] = found.get(str(value), 0) + 1
        return found


def speech_in(shape: Shape) -> Speech | None:
    """The list that looks most like a transcript; None where none does."""
    found = [speech for path, items in shape.lists.items() if (speech := speech_of(path, items)) is not None]
    return max(found, key=lambda speech: speech.score, default=None)


def speech_of(path: Path, items: Sequence[Any]) -> Speech | None:
    objects = [item for item in items if isinstance(item, dict)]
    if not objects or len(objects) < len(items):
        return None
    text = _text_key(objects)
    if text is None:
        return None
    role = _role_key(objects, text)
    named = any(word in plain(path[-1]) for word in _LIST_NAMES) if path else False
    known = 0.0
    if role is not None:
        roles = [str(item.get(role)).casefold() for item in objects]
        known = sum(word in AGENT_WORDS or word in USER_WORDS for word in roles) / len(roles)
    if role is None and not named:
        return None
    score = 2 * named + 3 * known + (1 if role else 0) + min(len(objects), 50) / 50 + 1 / (1 + len(path))
    return Speech(path=path, items=objects, role=role, text=text, score=score)


def _text_key(objects: Sequence[Mapping[str, Any]]) -> str | None:
    def holds(name: str) -> float:
        return sum(_is_text(item.get(name)) for item in objects) / len(objects)

    by_plain = {plain(name): name for item in objects for name in item}
    for key in _TEXT_KEYS:
        if key in by_plain and holds(by_plain[key]) >= 0.3:
            return by_plain[key]
    return None


def _is_text(value: Any) -> bool:
    if isinstance(value, str):
        return True
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(part, str) or (isinstance(part, dict) and "text" in part) for part in value)
    )


def _role_key(objects: Sequence[Mapping[str, Any]], text: str) -> str | None:
    """The member whose values are words for the two who speak, else one of the usual names with few different values."""
    names = list(dict.fromkeys(name for item in objects for name in item if name != text))
    best: tuple[float, str] | None = None
    for name in names:
        values = [item.get(name) for item in objects if isinstance(item.get(name), str)]
        if len(values) < 0.6 * len(objects):
            continue
        words = [str(value).casefold() for value in values]
        known = sum(word in AGENT_WORDS or word in USER_WORDS for word in words) / len(objects)
        usual = plain(name) in _ROLE_KEYS
        few = len(set(words)) <= max(2, min(8, len(objects) // 2 + 1))
        score = 2 * known + 0.5 * usual - (_ROLE_KEYS.index(plain(name)) * 0.02 if usual else 0)
        if (known > 0.3 or (usual and few)) and (best is None or score > best[0]):
            best = (score, name)
    return best[1] if best else None


def plain_speech(shape: Shape) -> tuple[Path, list[str]] | None:
    """A text of `Who: what was said` lines, and the names in it."""
    for path, values in sorted(shape.leaves.items(), key=lambda item: len(item[0])):
        for value in values:
            lines = [line for line in value.splitlines() if line.strip()] if isinstance(value, str) else []
            spoken = [found["who"] for line in lines if (found := _PLAIN_LINE.match(line))]
            if len(spoken) >= 2 and len(spoken) >= 0.6 * len(lines) and len(set(spoken)) <= 6:
                return path, list(dict.fromkeys(spoken))
    return None


# Kinds of single values


def is_moment(value: Any) -> bool:
    """An instant: ISO 8601, RFC 2822, or epoch in any unit."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int | float):
        return 1e8 <= value < 1e20
    if not isinstance(value, str):
        return False
    if re.fullmatch(r"[0-9]{9,19}([.][0-9]+)?", value):
        return 1e8 <= float(value) < 1e20
    return bool(
        re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", value) or re.match(r"[A-Z][a-z]{2}, \d\d? [A-Z][a-z]{2} \d{4} \d\d:", value)
    )


def is_naive(value: Any) -> bool:
    """An instant in words that names no time zone."""
    return isinstance(value, str) and bool(re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.]\d+)?)?$", value))


def number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]+([.][0-9]+)?", value):
        return float(value)
    return None


def is_offset(value: Any) -> bool:
    """A time from the start of the call, as a number or like `3.84s`."""
    return (number(value) is not None and not is_moment(value)) or (
        isinstance(value, str) and bool(re.fullmatch(r"[0-9]+([.][0-9]+)?(ms|s)", value))
    )


def is_url(value: Any) -> bool:
    return isinstance(value, str) and bool(re.match(r"(https?|s3|gs)://\S+$", value))


def is_phone(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"\+?[0-9][0-9 ()./-]{6,18}", value))
