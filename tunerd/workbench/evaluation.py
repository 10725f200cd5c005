"""Documents tried on the rules of a source: singly, or together where the source gathers several for a call. Nothing is sent."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tunerd.call import Document, Fragment, Mapped, Refusal, RefusedDocument
from tunerd.carried_key import keyed
from tunerd.mapping.explanation import Explanation
from tunerd.outcome import FailReason
from tunerd.record import record
from tunerd.workbench.compiled import CompiledSource
from tunerd.workbench.request import request_of

_NO_KEY: Final = Refusal(
    reason=FailReason.UNMAPPABLE,
    where="gather.key",
    what="gave nothing, and no document before it in its file has a key either: nothing tells which call it belongs to",
)


@record
class Unit:
    """What is mapped at once: one document, the documents of one gathered call, or one that could not be read."""

    documents: Sequence[Document] = ()
    fragments: Sequence[Fragment] = ()
    """Of a gathered call: its documents as the rules see them."""
    cut: Refusal | None = None
    """Of a gathered call that may lack a part: `run` does not send it without `tunerd retry`."""
    unread: RefusedDocument | None = None

    @property
    def origins(self) -> tuple[str, ...]:
        return (str(self.unread.origin),) if self.unread else tuple(str(one.origin) for one in self.documents)


@record
class Evaluation:
    """One unit and its result."""

    compiled: CompiledSource
    unit: Unit
    explanation: Explanation | None
    """None where it could not be read."""
    complete: bool = True
    """False for a gathered call that is only mapped when its wait is over."""
    unsent: Refusal | None = None
    """The rules made a call, and `run` would fail that call when it posts it."""

    @property
    def refusal(self) -> Refusal | None:
        if self.unit.unread is not None:
            return self.unit.unread.refusal
        return self.unit.cut or (self.explanation.refusal if self.explanation is not None else None) or self.unsent


def _apart(compiled: CompiledSource, reads: Iterable[Document | RefusedDocument]) -> Iterator[Document | RefusedDocument]:
    """The documents of a source with `documents:` are those in the list."""
    for one in reads:
        yield from compiled.mapping.elements(one) if isinstance(one, Document) else (one,)


def units(compiled: CompiledSource, reads: Iterable[Document | RefusedDocument]) -> list[Unit]:
    """What was read, as it is mapped: in the order of reading; gathered calls in the order of their first document."""
    found: list[Unit] = []
    parts: list[Fragment | RefusedDocument] = []
    documents: dict[tuple[int | str, int], Document] = {}
    for one in _apart(compiled, reads):
        if isinstance(one, RefusedDocument):
            found.append(Unit(unread=one))
            parts.append(one)
            continue
        if not compiled.mapping.gathers:
            found.append(Unit(documents=(one,)))
            continue
        mapped = compiled.mapping.map(one)
        if mapped.fragment is None or mapped.recording is not None:
            found.append(Unit(documents=(one,)))
        if mapped.fragment is not None:
            parts.append(mapped.fragment)
            documents[one.origin.place] = one
        elif mapped.refused is not None:
            parts.append(mapped.refused)
    of_calls = keyed(parts)
    for key, together in of_calls.calls.items():
        read = [documents[fragment.origin.place] for fragment in together]
        if key:
            found.append(Unit(documents=read, fragments=together, cut=of_calls.cuts.get(key)))
        else:
            found += [Unit(unread=RefusedDocument(origin=one.origin, refusal=_NO_KEY)) for one in read]
    return found


def evaluate(compiled: CompiledSource, unit: Unit) -> Evaluation:
    """The result of the rules, with every rule's trace."""
    if unit.unread is not None:
        return Evaluation(compiled=compiled, unit=unit, explanation=None)
    if not unit.fragments:
        explanation, complete = compiled.mapping.explain(unit.documents[0]), True
    else:
        complete = compiled.mapping.gather(None, unit.fragments, wait_is_over=False) is not None
        explanation = compiled.mapping.explain_gathered(unit.fragments)
    return Evaluation(
        compiled=compiled, unit=unit, explanation=explanation, complete=complete, unsent=_unsent(compiled, explanation.mapped)
    )


def _unsent(compiled: CompiledSource, mapped: Mapped) -> Refusal | None:
    """What is checked when the body is frozen, by the code that freezes it."""
    if mapped.call is None:
        return None
    request = request_of(mapped.call, compiled)
    return request if isinstance(request, Refusal) else None


def mapped(compiled: CompiledSource, unit: Unit) -> Mapped:
    """The same without the notes, and quicker. A gathered call is mapped as if its wait were over."""
    if unit.unread is not None:
        return Mapped(refused=unit.unread)
    if not unit.fragments:
        return compiled.mapping.map(unit.documents[0])
    if unit.cut is not None:
        return Mapped(refused=RefusedDocument(origin=unit.documents[-1].origin, refusal=unit.cut))
    return compiled.mapping.gather(None, unit.fragments) or Mapped()
