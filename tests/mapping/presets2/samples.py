"""The samples' way through framing and rules, told in a few words a call: for the table over all of them."""

import re
from collections.abc import Sequence

import orjson

from tests.mapping.presets.golden import body_of, mapping_of
from tests.mapping.presets2 import gathering
from tests.real_parts import SAMPLES
from tunerd.call import Document, Form, Mapped, RefusedDocument
from tunerd.intake.read_again import read_documents
from tunerd.mapping.limits import check_create_call
from tunerd.sandbox.body_check import judge


def outcomes(source: str, files: Sequence[str]) -> list[str]:
    """Of each call that the files make, or of each of their documents, what becomes of it."""
    read = [one for file in files for one in read_documents(str(SAMPLES / file), source="calls")]
    documents = [one for one in read if isinstance(one, Document)]
    told = [one.refusal.reason.value for one in read if isinstance(one, RefusedDocument)]
    create, send = (_mapped(source, form, documents) for form in (Form.CREATE_CALL, Form.SEND_CALLS))
    return told + [_told(one, other) for one, other in zip(create, send, strict=True)]


def _mapped(source: str, form: Form, documents: Sequence[Document]) -> list[Mapped]:
    own = source.startswith("own/") or source in gathering.PRESETS
    mapping = gathering.mapping_of(source, form) if own else mapping_of(source, form)
    if mapping.gathers:
        return [gathered.mapped for gathered in gathering.map_read(source, form, documents)]
    return [mapping.map(document) for document in documents]


def _told(mapped: Mapped, for_send_calls: Mapped) -> str:
    if mapped.recording is not None:
        return "recording" if mapped.recording.location else "recording: there is none"
    if mapped.ignored is not None:
        return "ignored"
    if mapped.refused is not None:
        return "refused: " + re.sub(r" \(.*", "", mapped.refused.refusal.where)
    assert mapped.call is not None
    assert mapped.notes.left_out == ()
    assert check_create_call(body_of(mapped.call, Form.CREATE_CALL)) is None
    assert for_send_calls.call is not None
    assert not judge(Form.SEND_CALLS, orjson.dumps(body_of(for_send_calls.call, Form.SEND_CALLS))).problems
    rows = len(orjson.loads(mapped.call.payload)["transcript_with_tool_calls"])
    repairs = ", ".join(f"{name} {count}" for name, count in sorted(mapped.notes.repairs.items()))
    return f"call {rows} rows" + (f": {repairs}" if repairs else "")
