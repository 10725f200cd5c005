"""Calls on the page: the failed ones by reason with what to do, the list of one reason, and the story of one call. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlencode

from tunerd.admin.answer_types import CallRow, CallsPage, StatusDocument, StoryRow
from tunerd.admin.phrases import ago, count_of, facts_of, instant, name_of, place, selection, to_do, why
from tunerd.page.frame import Viewer, asked, badge, card, form, row, state_badge
from tunerd.page.markup import NOTHING, Html, joined, tag

_EXAMPLES: Final = 3


def call_link(call: CallRow) -> Html:
    if not call.call_id:
        return tag("span", name_of(call), class_="place")
    return tag("a", name_of(call), href="/call?" + _query(id=call.call_id))


def failed_groups(calls: Sequence[CallRow], now: float, viewer: Viewer, *, are_all: bool) -> Html:
    """`calls`: newest first. `are_all`: there are no others, so that the counts are right."""
    groups: dict[str, list[CallRow]] = defaultdict(list)
    for call in calls:
        groups[call.reason or ""].append(call)
    by_size = sorted(groups.items(), key=lambda group: -len(group[1]))
    return joined(*(_group(reason, found, now, viewer, is_all=are_all) for reason, found in by_size))


def _group(reason: str, calls: Sequence[CallRow], now: float, viewer: Viewer, *, is_all: bool) -> Html:
    newest = calls[0]
    count = count_of(len(calls), "call") if is_all else f"{len(calls):,} or more"
    head = tag(
        "div", badge("bad", reason), tag("strong", count), tag("span", f"newest {ago(now - newest.admitted_at)}", class_="dim"),
        tag("a", "list", href="/failed?" + _query(reason=reason), class_="end"), class_="head",
    )  # fmt: skip
    examples = [tag("p", call_link(call), f": {why(call)}") for call in calls[:_EXAMPLES]]
    do = tag("p", tag("span", "do: ", class_="dim"), to_do(newest, selection(newest)))
    if not viewer.may_act:
        return row(head, *examples, do)
    fields = {"reason": reason}
    every = " all of this reason" if not is_all else f" all {len(calls):,}" if len(calls) > 1 else ""
    acts = tag(
        "div",
        asked("/actions/retry", viewer, fields, f"Retry{every}", "They are mapped again with the current rules and sent."),
        asked("/actions/dismiss", viewer, fields, f"Dismiss{every}", "They are no longer listed and will not be sent."),
        class_="acts",
    )
    return row(head, *examples, do, acts)


def failed_list(reason: str, found: CallsPage, now: float, viewer: Viewer) -> Sequence[Html]:
    rows = [
        row(
            tag("div", call_link(call), tag("span", f"source {call.source}", class_="dim"),
                tag("span", ago(now - call.admitted_at), class_="dim end"), class_="head"),
            tag("p", why(call)),
            tag("p", tag("span", "from ", class_="dim"), tag("span", place(call.path, call.offset), class_="place"))
            if call.call_id else NOTHING,
            tag("p", tag("span", "do: ", class_="dim"), to_do(call, selection(call))),
            _acts(call, viewer),
        )
        for call in found.calls
    ]  # fmt: skip
    more = NOTHING
    if found.next_after_row is not None:
        more = tag("p", tag("a", "older ones", href="/failed?" + _query(reason=reason, after_row=str(found.next_after_row))))
    return [tag("h1", f"Failed: {reason}"), card("Newest first", *(rows or [tag("p", "none", class_="dim")]), more)]


def story(stories: Sequence[StoryRow], status: StatusDocument, viewer: Viewer) -> Sequence[Html]:
    return [part for one in stories for part in _story(one, status, viewer)]


def _story(one: StoryRow, status: StatusDocument, viewer: Viewer) -> Sequence[Html]:
    call = one.call
    dismissed = badge("calm", "dismissed") if call.dismissed else NOTHING
    facts = [*facts_of(call, status, one.audio), *(("read from", place(origin.path, origin.offset)) for origin in one.origins)]
    table = tag("table", *(tag("tr", tag("th", name), tag("td", value)) for name, value in facts), class_="facts")
    is_failed = call.state == "failed" and not call.dismissed
    do = tag("p", tag("span", "do: ", class_="dim"), to_do(call, selection(call))) if is_failed else NOTHING
    events = [
        tag("tr", tag("td", instant(event.at), class_="at dim"),
            tag("td", event.what + ("" if event.http_status is None else f" {event.http_status}")
                + (f": {event.detail}" if event.detail else "")))
        for event in one.events
    ]  # fmt: skip
    waits = card("Recording strategies", tag("ul", *(tag("li", line) for line in one.waits_for)))
    return [
        tag("h1", name_of(call), " ", state_badge(call.state), dismissed),
        card("Now", table, do, _acts(call, viewer)),
        waits if one.waits_for else NOTHING,
        card("History", tag("table", *events, class_="history")) if events else NOTHING,
    ]


def _acts(call: CallRow, viewer: Viewer) -> Html:
    fields = named(call)
    if not viewer.may_act or call.state != "failed" or call.dismissed or not fields:
        return NOTHING
    return tag(
        "div", form("/actions/retry", viewer, fields, "Retry"), form("/actions/dismiss", viewer, fields, "Dismiss"), class_="acts"
    )


def named(call: CallRow) -> Mapping[str, str]:
    """The fields of a form that name this call; empty where a form cannot name it (a path that is not UTF-8)."""
    if call.call_id:
        return {"call_id": call.call_id} if call.call_id.isprintable() else {}
    return {"path": call.path, "offset": str(call.offset)} if call.path.isprintable() else {}


def _query(**values: str) -> str:
    return urlencode(values, errors="replace")
