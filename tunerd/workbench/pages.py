"""Files that hold many documents in one object, as list APIs give them: which list is it? For `documents:`. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from tunerd.workbench.fields import Finder
from tunerd.workbench.shape import Shape, speech_in
from tunerd.workbench.written import dotted

_SAID: Final = frozenset({"text", "content", "message", "utterance"})
"""Under these names a turn of a transcript has its words; a call has a list of turns."""


def list_of_documents(values: Sequence[Any]) -> str | None:
    """The rule that gives the documents, where each of these values is a page of calls; None: each is a document itself."""
    objects = [value for value in values if isinstance(value, dict)]
    if not objects or len(objects) != len(values):
        return None
    for path in _lists(objects[0]):
        elements = [item for value in objects for item in _at(value, path) or ()]
        if elements and all(isinstance(item, dict) for item in elements) and _are_calls(elements):
            return dotted("doc", path) if not _is_a_call(objects[0], path) else None
    return None


def _lists(value: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, member in value.items():
        if isinstance(member, list):
            yield (name,)
    for name, member in value.items():
        if isinstance(member, dict):
            yield from ((name, inner) for inner, listed in member.items() if isinstance(listed, list))


def _at(value: Any, path: Sequence[str]) -> list[Any] | None:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, list) else None


def _are_calls(elements: Sequence[dict[str, Any]]) -> bool:
    """Each has an id of a call and a start, and an end, a length, audio, or who said what; none is a turn of a transcript."""
    if any(name.lower() in _SAID and isinstance(member, str) for name, member in elements[0].items()):
        return False
    shape = Shape.of(elements)
    finder = Finder(shape, ())
    if finder.call_id() is None or finder.start() is None:
        return False
    speech = speech_in(shape)
    return any((finder.end(), finder.duration(), finder.audio())) or (speech is not None and speech.score >= 2)


def _is_a_call(value: dict[str, Any], path: Sequence[str]) -> bool:
    """Whether the object around the list is a call."""
    around = {name: member for name, member in value.items() if name != path[0]}
    finder = Finder(Shape.of([around]), ())
    return finder.call_id() is not None and finder.start() is not None
