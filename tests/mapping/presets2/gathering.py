"""A stand-in for gather (design step 2b) over the presets in gathered/: which documents make a call, and its roots.

It judges by the presets' own `gather:` rules, as rules.md defines them, and hands the mapping `docs` and the parts as let
names. It knows no files, no waiting and no ledger.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

from tests.mapping.presets.golden import WRITTEN_AT_MS
from tests.mapping.sources import CREATE, SEND, compiled
from tunerd.call import Document, Form, Mapped, Origin
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.mapping import SourceMapping
from tunerd.mapping.functions import Context, Run
from tunerd.mapping.rules import RuleCompiler
from tunerd.mapping.values import true
from tunerd.places import Node

FOLDER: Final = Path(__file__).parent / "gathered"
PRESETS: Final = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
_FILE: Final = {"path": "/calls/one.json", "name": "one.json", "stem": "one", "dir": "", "mtime": WRITTEN_AT_MS}


@dataclass(frozen=True, slots=True)
class Gathered:
    key: str
    documents: int
    parts: tuple[str, ...]
    complete: bool
    """Whether it would be mapped before its wait is over."""
    mapped: Mapped


class _Rules:
    """The `gather:` of a preset, compiled."""

    def __init__(self, node: Node) -> None:
        members = node.value
        assert isinstance(members, dict)
        each, whole = RuleCompiler(Context()), RuleCompiler(Context())
        self._doc, self._file = each.root("doc").index, each.root("file").index
        parts = members["parts"].value if "parts" in members else {}
        assert isinstance(parts, dict)
        self.parts = {name: each.rule(rule, name, each.roots.inner()).run for name, rule in parts.items()}
        self.key: Run = each.rule(members["key"], "key", each.roots.inner()).run
        self.newest = each.rule(members["newest"], "newest", each.roots.inner()).run if "newest" in members else None
        self._roots = {name: whole.root(name).index for name in (*self.parts, "docs")}
        self._complete = whole.rule(members["complete"], "complete", whole.roots.inner()).run if "complete" in members else None
        assert not each.problems + whole.problems, (each.problems, whole.problems)
        self._sizes = each.size, whole.size

    def of(self, run: Run, document: Any) -> Any:
        slots = [None] * self._sizes[0]
        slots[self._doc], slots[self._file] = document, _FILE  # type: ignore[call-overload]
        return run(slots)

    def part_of(self, document: Any) -> str | None:
        return next((name for name, run in self.parts.items() if true(self.of(run, document))), None)

    def complete(self, parts: dict[str, Any], documents: list[Any]) -> bool:
        slots: list[Any] = [None] * self._sizes[1]
        for name, index in self._roots.items():
            slots[index] = documents if name == "docs" else parts.get(name)
        return self._complete is not None and true(self._complete(slots))


def preset_text(preset: str) -> str:
    return (FOLDER / f"{preset}.yaml").read_text("utf-8")


@cache
def _rules(preset: str) -> _Rules:
    members = parse_yaml(preset_text(preset), preset).value
    assert isinstance(members, dict)
    return _Rules(members["gather"])


@cache
def _mapping(preset: str, form: Form) -> SourceMapping:
    roots = "".join(f"    {name}: doc.parts.{name}\n" for name in _rules(preset).parts)
    text = preset_text(preset).replace("\n  let:\n", f"\n  let:\n    docs: doc.docs\n{roots}", 1)
    destination = CREATE if form is Form.CREATE_CALL else SEND
    return compiled(text, destination, untimed="spread", brings={"twilio-recording": True})


def map_documents(preset: str, form: Form, documents: Sequence[Any]) -> list[Gathered]:
    """The calls that the documents of one file make, each mapped with what is there, in the order of their first document."""
    rules = _rules(preset)
    calls: dict[str, list[Any]] = {}
    key = ""
    for document in documents:
        key = str(rules.of(rules.key, document) or "").strip() or key
        calls.setdefault(key, []).append(document)
    return [_map(preset, form, key, together) for key, together in calls.items()]


def _map(preset: str, form: Form, key: str, documents: list[Any]) -> Gathered:
    rules = _rules(preset)
    parts: dict[str, Any] = {}
    newest: dict[str, Any] = {}
    for document in documents:
        name = rules.part_of(document)
        at = rules.of(rules.newest, document) if rules.newest is not None else None
        if name is not None and not (name in parts and at is not None and newest[name] is not None and at < newest[name]):
            parts[name], newest[name] = document, at
    value: Any = {"docs": documents, "parts": parts}
    raw = orjson.dumps(value)
    origin = Origin(source="agent", path="/calls/one.json", length=len(raw), mtime_ns=WRITTEN_AT_MS * 1_000_000)
    mapped = _mapping(preset, form).map(Document(origin=origin, raw=raw, value=value, settled_at=1.0))
    return Gathered(key, len(documents), tuple(parts), rules.complete(parts, documents), mapped)
