"""`documents:`, several documents in one value: each becomes a document of its own, with its own place in the ledger. Pure.

A place is the offset of the value plus the element's number: a list of n elements is longer than n bytes, so that no two
places of a file are the same.
"""

from dataclasses import replace
from typing import Any

import orjson

from tunerd.call import KEPT_HEAD_BYTES, Document, Refusal, RefusedDocument
from tunerd.mapping.values import kind
from tunerd.outcome import FailReason


def elements_of(document: Document, listed: Any) -> list[Document | RefusedDocument]:
    """The elements of a list (an object counts as the only one). What is none is refused, and so is a document without a list."""
    if isinstance(listed, dict):
        listed = [listed]
    if not isinstance(listed, list):
        what = (
            f"gave {kind(listed)}, not a list of documents: correct the rule, then have the file written again; other documents "
            "in the same directory need a source of their own"
        )
        return [_refused(document, 0, "documents", what)]
    found: list[Document | RefusedDocument] = []
    for at, value in enumerate(listed):
        if isinstance(value, dict):
            raw = orjson.dumps(value)
            origin = replace(document.origin, offset=document.origin.offset + at, length=len(raw))
            found.append(replace(document, origin=origin, raw=raw, value=value, is_element=True))
        else:
            what = f"is {kind(value)}, not an object: each element of the list has to be one document"
            found.append(_refused(document, at, f"documents[{at}]", what))
    return found


def _refused(document: Document, at: int, where: str, what: str) -> RefusedDocument:
    return RefusedDocument(
        origin=replace(document.origin, offset=document.origin.offset + at),
        refusal=Refusal(reason=FailReason.UNMAPPABLE, where=where, what=what),
        head=document.raw[:KEPT_HEAD_BYTES],
        settled_at=document.settled_at,
    )
