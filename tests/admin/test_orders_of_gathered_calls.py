"""Orders about calls that were gathered from several documents: real rules, a ledger, and what retry makes of them."""

from collections.abc import Mapping
from typing import Any

import orjson

from tests.admin.benches import Bench
from tests.mapping.sources import document
from tests.mapping.test_gather import ANALYZED, ENDED, RETELL, fragments, gathering
from tests.ops.parts import NOW
from tunerd.admin.api import CallsOrder, RemapOrder, RetryOrder
from tunerd.call import Fragment, RefusedDocument, State
from tunerd.ledger import Admission, Filter, GroupResult
from tunerd.mapping import SourceMapping

FAILED: Mapping[str, Any] = {"states": frozenset({State.FAILED})}
WITHOUT_ID = RETELL.replace("call_id: ended.call.id", "call_id: analyzed.nothing")


def bench_of(mapping: SourceMapping) -> Bench:
    return Bench(rules={"agent": mapping})  # type: ignore[dict-item]


async def gather(bench: Bench, mapping: SourceMapping, parts: list[Fragment]) -> None:
    """As intake does it, after the wait."""
    await bench.ledger.admit(Admission(fragments=parts), NOW)
    ((group,), _) = await bench.ledger.groups("agent", NOW + 60)
    mapped = mapping.gather(group.kept, group.fragments)
    assert mapped is not None
    result = mapped.call or mapped.refused
    assert result is not None
    await bench.ledger.gather([GroupResult(row=group.row, version=group.version, result=result)], NOW + 60)


async def test_retry_maps_all_documents_with_todays_rules() -> None:
    """A call that failed by its rules is mapped again from everything it was gathered from."""
    wrong, right = gathering(WITHOUT_ID), gathering(RETELL)
    bench = bench_of(right)
    await gather(bench, wrong, fragments(wrong, [ENDED, ANALYZED]))
    assert bench.ledger.gauges().calls[State.FAILED] == 1
    assert (await bench.ask(RetryOrder(**FAILED))).done == {"waiting": 1}
    (story,) = await bench.ledger.story("c-1")
    assert len(story.origins) == 2
    stored = await bench.ledger.document(story.call.row)
    assert stored is not None
    assert len(orjson.loads(stored)["tunerd_gathered"]) == 2


async def test_retry_of_what_is_still_incomplete_says_which_part_is_missing() -> None:
    """The row stays, failed, and the report names the part."""
    mapping = gathering(RETELL)
    bench = bench_of(mapping)
    await gather(bench, mapping, fragments(mapping, [ANALYZED]))
    report = await bench.ask(RetryOrder(**FAILED))
    assert report.failed[0].what.endswith("its part `ended` never came")
    assert bench.ledger.gauges().calls[State.FAILED] == 1


async def test_retry_of_a_refused_part_puts_it_with_its_call() -> None:
    """A document whose key could not be told stands alone as failed; with better rules it is gathered."""
    broken, right = gathering(RETELL.replace("key: doc.call.id", "key: abs(doc.event)")), gathering(RETELL)
    refused: RefusedDocument | None = broken.map(document(ENDED)).refused
    assert refused is not None
    bench = bench_of(right)
    await bench.ledger.admit(Admission(refused=[refused]), NOW)
    assert (await bench.ask(RetryOrder(**FAILED))).done == {"gathering": 1}
    calls = bench.ledger.gauges().calls
    assert (calls[State.GATHERING], calls[State.FAILED]) == (1, 0)


async def test_retry_of_a_line_without_a_key_stays_failed() -> None:
    """Alone it can't be told whose call it belongs to."""
    mapping = gathering(RETELL)
    bench = bench_of(mapping)
    line = mapping.map(document({"event": "ended"})).fragment
    assert line is not None
    refused = gathering(RETELL.replace("key: doc.call.id", "key: abs(doc.event)")).map(document({"event": "ended"})).refused
    assert refused is not None
    await bench.ledger.admit(Admission(refused=[refused]), NOW)
    assert [trouble.reason for trouble in (await bench.ask(RetryOrder(**FAILED))).failed] == ["unmappable"]
    assert bench.ledger.gauges().calls[State.FAILED] == 1


async def test_a_failed_call_whose_documents_are_gone_is_not_made_of_one_of_them() -> None:
    """Retention took them: one file read again would make half a call; the row stays and the report says why."""
    mapping = gathering(RETELL)
    bench = bench_of(mapping)
    await gather(bench, mapping, fragments(mapping, [ANALYZED]))
    (row,) = (await bench.ask(CallsOrder(**FAILED))).calls
    bench.ledger.change(lambda store: store.bodies.remove(row.row))
    bench.places[row.path, row.offset] = document(ANALYZED, row.path)
    report = await bench.ask(RetryOrder(**FAILED))
    assert "no copy of the documents" in report.skipped[0].what
    assert bench.ledger.gauges().calls[State.FAILED] == 1


async def test_remap_of_a_call_that_waits() -> None:
    """What is not sent yet takes today's rules; a sent call stays as it is."""
    old, new = gathering(RETELL), gathering(RETELL.replace("{const: phone_call}", "{const: web_call}"))
    bench = bench_of(new)
    await gather(bench, old, fragments(old, [ENDED, ANALYZED]))
    assert (await bench.ask(RemapOrder(dismissed=None))).done == {"waiting": 1}
    (row,) = await bench.ledger.calls(Filter(dismissed=None))
    payload, _ = bench.ledger.change(lambda store: store.bodies.payload(row.row))
    assert b"web_call" in (payload or b"")
