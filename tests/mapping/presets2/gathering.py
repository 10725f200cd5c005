"""Calls that several documents make, through the real rules but without a ledger: which documents go together, and what of them.

What waits, lasts and is sent late is the ledger's matter and tested there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

from tests.mapping.presets.golden import ANYWHERE, WRITTEN_AT_MS
from tests.mapping.sources import CREATE, SEND
from tunerd.call import Document, Form, Fragment, Hold, Mapped, Origin
from tunerd.carried_key import keyed
from tunerd.config import Source
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.mapping import SourceMapping, compile_source, presets
from tunerd.mapping.manifest_facts import ManifestFacts

OWN: Final = Path(__file__).parent / "own"
"""Sources for samples of no platform: rules that a team would write."""
PRESETS: Final = tuple(name for name in presets.names() if "gather" in presets.load(name))


@dataclass(frozen=True, slots=True)
class Gathered:
    key: str
    documents: int
    parts: tuple[str, ...]
    """Those that are there, in the order of their first document."""
    complete: bool
    """Whether it is mapped before its wait is over."""
    mapped: Mapped


@cache
def mapping_of(source: str, form: Form) -> SourceMapping:
    """`source`: a preset, or own/NAME for a file of OWN."""
    rules: dict[str, Any] = {"preset": source}
    if source.startswith("own/"):
        members = parse_yaml((OWN / f"{source.removeprefix('own/')}.yaml").read_text("utf-8"), source).value
        assert isinstance(members, dict)
        rules = {name: members[name] for name in ("gather", "call") if name in members}
    return compile_source(
        Source(
            name="calls",
            path="/calls",
            agent_remote_identifier="support-bot",
            on_missing=Hold(hold_s=60.0),
            audio=ANYWHERE,
            **rules,
        ),
        CREATE if form is Form.CREATE_CALL else SEND,
        manifests=dict.fromkeys(presets.names(), ManifestFacts()),
        environ={},
    )


def map_documents(source: str, form: Form, documents: Sequence[Any]) -> list[Gathered]:
    """The calls that the documents of one file make, in the order of their first document."""
    return map_read(source, form, [document_at("one.json", value, offset=at) for at, value in enumerate(documents)])


def document_at(name: str, value: Any, *, offset: int = 0) -> Document:
    raw = orjson.dumps(value)
    mtime_ns = WRITTEN_AT_MS * 1_000_000
    origin = Origin(source="calls", path=f"/calls/{name}", offset=offset, length=len(raw), mtime_ns=mtime_ns)
    return Document(origin=origin, raw=raw, value=value, settled_at=1.0)


def map_read(source: str, form: Form, documents: Sequence[Document]) -> list[Gathered]:
    """The calls that the documents make when nothing more comes."""
    mapping = mapping_of(source, form)
    mapped = [mapping.map(one) for one in documents]
    fragments = [one.fragment for one in mapped if one.fragment is not None]
    assert len(fragments) + sum(one.ignored is not None for one in mapped) == len(documents)
    return [_gathered(mapping, key, together) for key, together in keyed(fragments).calls.items()]


def _gathered(mapping: SourceMapping, key: str, fragments: Sequence[Fragment]) -> Gathered:
    early = mapping.gather(None, fragments, wait_is_over=False)
    mapped = early if early is not None else mapping.gather(None, fragments)
    assert mapped is not None
    parts = tuple(dict.fromkeys(fragment.part for fragment in fragments if fragment.part is not None))
    return Gathered(key, len(fragments), parts, early is not None, mapped)
