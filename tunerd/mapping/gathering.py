"""`gather:`, compiled: which call a document belongs to, which part of that call it is, and whether the call is complete. Pure.

The key, the parts and `newest` are rules over one document, `complete` is one over all of them. How a call is mapped from
its documents is in source.py; how they are ordered, and written as one text, is here.
"""

import os
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from tunerd.call import KEPT_HEAD_BYTES, Document, Fragment, Origin, Refusal, RefusedDocument
from tunerd.config.quantities import DURATION_FORM, parse_duration
from tunerd.mapping.functions import Run
from tunerd.mapping.functions.times import epoch_ms
from tunerd.mapping.row_values import number_of, text_of
from tunerd.mapping.rule_reader import key_location
from tunerd.mapping.rules import RuleCompiler
from tunerd.mapping.ruleset import alternatives
from tunerd.mapping.scope import nearest
from tunerd.mapping.values import missing, true
from tunerd.outcome import FailReason
from tunerd.record import positional_record
from tunerd.yaml_location import Node

MOST_BYTES: Final = 16 * 1024 * 1024
"""Of all documents of one call: a key that never changes must not fill the disk."""
_MEMBERS: Final = frozenset({"key", "known", "not_call", "parts", "newest", "complete", "wait"})
_NOT_A_PART: Final = frozenset({"doc", "docs", "file", "env"})
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
_PACKED: Final = "tunerd_gathered"


@positional_record
class DocumentRules:
    """What is asked of each document."""

    key: Run
    parts: Sequence[tuple[str, Run]]
    newest: Run | None
    wait_s: float
    known: Run | None = None
    """True for the documents that the parts and the key are written for: it tells which one is meant inside an envelope."""
    not_call: Sequence[Run] = ()
    """One of them is true: the document is no part of any call."""

    def is_known(self, slots: Any) -> bool:
        return self.known is None or true(self.known(slots))

    def is_no_part(self, slots: Any) -> bool:
        return any(true(rule(slots)) for rule in self.not_call)

    def key_of(self, slots: Any) -> str:
        """Trimmed; empty where the document has none of its own."""
        return (text_of(self.key(slots)) or "").strip()

    def part_of(self, slots: Any) -> str | None:
        return next((name for name, rule in self.parts if true(rule(slots))), None)

    def newest_of(self, slots: Any) -> float | None:
        if self.newest is None:
            return None
        value = self.newest(slots)
        if missing(value):
            return None
        number = number_of(value)
        return epoch_ms(value) if number is None else number


def compile_documents(compiler: RuleCompiler, node: Node) -> DocumentRules | None:
    """The rules over single documents. None, with a problem noted, where the form is wrong."""
    members = compiler.members(node, "gather")
    if members is None:
        return None
    for name in members:
        if name not in _MEMBERS:
            hint = nearest(name, _MEMBERS)
            compiler.problem(key_location(node, name), f"gather.{name}", f"unknown member `{name}`{hint}")
    if "key" not in members or members["key"].value is None:
        compiler.problem(node.location, "gather.key", "`key:` is missing: a rule that gives documents of one call the same text")
        return None
    names = compiler.roots.inner()
    parts: list[tuple[str, Run]] = []
    listed = members.get("parts")
    for name, rule in (compiler.members(listed, "gather.parts") or {}).items() if listed is not None else ():
        path = f"gather.parts.{name}"
        if not _NAME.fullmatch(name):
            what = f"`{name}` is no name: use a-z, 0-9 and _, beginning with a letter"
            compiler.problem(key_location(listed or node, name), path, what)
        elif name in _NOT_A_PART or name in compiler.roots.slots:
            compiler.problem(key_location(listed or node, name), path, f"the name `{name}` is taken already: choose another")
        parts.append((name, compiler.rule(rule, path, names).run))

    def optional(name: str) -> Run | None:
        rule = members.get(name)
        return None if rule is None or rule.value is None else compiler.rule(rule, f"gather.{name}", names).run

    return DocumentRules(
        key=compiler.identity(members["key"], "gather.key", names).run,
        parts=tuple(parts),
        newest=optional("newest"),
        wait_s=_wait(compiler, node, members.get("wait")),
        known=optional("known"),
        not_call=[compiler.rule(rule, at, names).run for at, rule in alternatives(members.get("not_call"), "gather.not_call")],
    )


def _wait(compiler: RuleCompiler, node: Node, wait: Node | None) -> float:
    if wait is None or wait.value is None:
        what = "`wait:` is missing: how long a call waits for its next document, like 30s"
        compiler.problem(node.location, "gather.wait", what)
        return 0.0
    value = wait.value
    if type(value) in (int, float) and not value < 0:  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    try:
        return parse_duration(value) if isinstance(value, str) else parse_duration("")
    except ValueError:
        compiler.problem(wait.location, "gather.wait", f"takes {DURATION_FORM}")
        return 0.0


def part_names(node: Node) -> tuple[str, ...]:
    members = node.value if isinstance(node.value, dict) else {}
    parts = members["parts"].value if "parts" in members else None
    return tuple(parts) if isinstance(parts, dict) else ()


# The documents of one call.


@positional_record
class Piece:
    """One document of a call, read."""

    document: Document
    part: str | None
    newest: float | None


def in_order(documents: Iterable[Document]) -> list[Document]:
    """As they were written: by the time of their file, but never a later line of a log before an earlier one, nor a line of
    a later generation of a log before one of an earlier generation, whatever the times of their files say."""
    timed: list[tuple[int, int, str, int, Document]] = []
    for row in _rows(documents):
        latest = 0
        for one in sorted(row, key=lambda one: (one.origin.log, one.origin.offset)):
            at, latest = one.origin, max(latest, one.origin.mtime_ns)
            timed.append((latest, at.log, "" if at.log else at.path, at.offset, one))
    timed.sort(key=lambda entry: entry[:4])
    return [entry[4] for entry in timed]


def _rows(documents: Iterable[Document]) -> list[list[Document]]:
    """The documents of each whole file, and those of each log together with its other generations."""
    files: dict[str, list[Document]] = {}
    logs: dict[int, list[Document]] = {}
    for one in documents:
        if one.origin.log:
            logs.setdefault(one.origin.log, []).append(one)
        else:
            files.setdefault(one.origin.path, []).append(one)
    rotated: list[tuple[set[str], list[Document]]] = []
    for row in logs.values():
        paths = {one.origin.path for one in row}
        for known in [one for one in rotated if any(_is_rotated(a, b) for a in paths for b in one[0])]:
            rotated.remove(known)
            paths, row = paths | known[0], known[1] + row
        rotated.append((paths, row))
    return [*files.values(), *(row for _, row in rotated)]


def _is_rotated(path: str, other: str) -> bool:
    """Whether the one is a rotated name of the other: nearly always its name with something behind it."""
    shorter, longer = sorted((path, other), key=len)
    return longer.startswith(shorter)


def newest_parts(pieces: Sequence[Piece]) -> dict[str, Document]:
    """Of each part the newest document: the one with the greater `newest`, else the one that was written last."""
    found: dict[str, Piece] = {}
    for piece in pieces:
        if piece.part is None:
            continue
        held = found.get(piece.part)
        if held is None or held.newest is None or (piece.newest is not None and piece.newest >= held.newest):
            found[piece.part] = piece
    return {name: piece.document for name, piece in found.items()}


def merged(kept: Sequence[Document], fresh: Sequence[Document]) -> list[Document]:
    """All documents of a call in their order; a place that was read anew counts as it is now."""
    places = {one.origin.place for one in fresh}
    return in_order([*(one for one in kept if one.origin.place not in places), *fresh])


def document_of(fragment: Fragment) -> Document:
    """The fragment as it was read."""
    value = orjson.loads(fragment.document)
    return Document(origin=fragment.origin, raw=fragment.document, value=value, settled_at=fragment.settled_at)


def pack(documents: Sequence[Document]) -> bytes:
    """All documents of a call as one JSON text, with their places: what the ledger keeps of a gathered call."""
    packed = [
        {
            "path": os.fsencode(one.origin.path).decode("utf-8", "replace"),
            "offset": one.origin.offset,
            "length": one.origin.length,
            "mtime_ns": one.origin.mtime_ns,
            "log": one.origin.log,
            "settled_at": one.settled_at,
            "document": orjson.Fragment(one.raw),
        }
        for one in documents
    ]
    return orjson.dumps({_PACKED: packed})


def together(kept: bytes | None, fragments: Sequence[Fragment], source: str) -> list[Document]:
    """All documents of a call in their order: those that the ledger `kept` with it, and new ones."""
    known = unpack(orjson.loads(kept), source) if kept is not None else None
    return merged(known or (), [document_of(one) for one in fragments])


def set_aside(kept: bytes | None, fragments: Sequence[Fragment], refusal: Refusal, source: str) -> RefusedDocument:
    """All documents of a call as a refusal. No rule is asked."""
    documents = together(kept, fragments, source)
    packed, last = pack(documents), documents[-1]
    return RefusedDocument(
        origin=last.origin, refusal=refusal, head=packed[:KEPT_HEAD_BYTES], document=packed, settled_at=last.settled_at
    )


def with_absent(refusal: Refusal, rules: DocumentRules | None, there: Container[str], *, alone: bool) -> Refusal:
    """The refusal of a call, and which of its parts never came: what is missing is often in one of them. `alone`: each
    document is a call, and the part is in another document."""
    absent = [name for name, _ in rules.parts if name not in there] if rules is not None else []
    if not absent or refusal.reason not in (FailReason.UNMAPPABLE, FailReason.INVALID):
        return refusal
    never = f"part `{absent[0]}`" if len(absent) == 1 else f"parts {', '.join(f'`{name}`' for name in absent)}"
    why = f"its {never} never came"
    if alone:
        why = f"with `gather: null` each document is a whole call, and this one has no {never}"
    return replace(refusal, what=f"{refusal.what}; {why}")


def unpack(value: Any, source: str) -> list[Document] | None:
    """The documents of what `pack` has made of them; None: it is a document of its own."""
    if not isinstance(value, Mapping) or value.keys() != {_PACKED} or not isinstance(value[_PACKED], list):
        return None
    documents: list[Document] = []
    for one in value[_PACKED]:
        try:
            origin = Origin(
                source=source, path=one["path"], offset=one["offset"], length=one["length"], mtime_ns=one["mtime_ns"],
                log=one["log"],
            )  # fmt: skip
            raw = orjson.dumps(one["document"])
            documents.append(Document(origin=origin, raw=raw, value=one["document"], settled_at=one["settled_at"]))
        except (KeyError, TypeError):
            return None
    return documents or None
