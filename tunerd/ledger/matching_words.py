"""What `status CALL_ID` and failed rows say of a call's search for its recording. Pure; no line holds a URL (its query may be a
secret).
"""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from tunerd.call import Choice, Hold, ManifestStrategy, OnMissing, State, Strategy, UrlStrategy
from tunerd.file_pattern import FILES
from tunerd.ledger.decision import Absence, wants_of
from tunerd.ledger.matching import Candidate, Free, Tie
from tunerd.ledger.rows import Body, KeptUrlCheck, LedgerRow, Want
from tunerd.location import without_secrets

BY_HAND: Final = "a person decides with: tunerd retry CALL_ID --recording LOCATION"
_NAMED: Final = 4
"""Recordings of a tie that are named."""


def waits_for(
    row: LedgerRow,
    body: Body | None,
    wants: Sequence[Want],
    offers: Mapping[int, Candidate | Tie] = MappingProxyType({}),
    checks: Sequence[KeptUrlCheck] = (),
) -> Sequence[str]:
    """What a call that is not sent looks for: one line a strategy, one for each URL that is asked for, and one more if only
    `on_missing: hold` keeps it waiting."""
    if body is None or row.state is State.SENT:
        return ()
    answers = {want.position: want.absence for want in wants}
    files = {want.position: want for want in wants if want.source == FILES}
    lines = []
    for position, strategy in enumerate(body.strategies):
        until, offered = row.waits_from + getattr(strategy, "wait_s", 0.0), offers.get(position)
        if position in files:
            lines.append(looks_for_file(files[position], until, offered))
        else:
            lines.append(looks_for(strategy, answers.get(position), until, offered, row.started_at_ms or 0))
    lines += [asks_for(check) for check in checks]
    is_asking = any(one.absent_at(body.verify_s or 0.0) is None for one in checks)
    if row.state is State.WAITING and row.due_at is not None and not offers and not is_asking:
        held = held_by(body.strategies, body.on_missing, answers, waits_from=row.waits_from, due_at=row.due_at)
        lines += [held] if held is not None else []
    return lines


def looks_for(
    strategy: Strategy, answer: Absence | None, until: float, offered: Candidate | Tie | None, started_at_ms: int
) -> str:
    """One line for a strategy."""
    if isinstance(strategy, UrlStrategy):
        return f"url: {'in the document' if strategy.location is not None else 'absent'}"
    if not strategy.key:
        kind, what = ("nearest of", "a value of `same:` is missing") if _is_only(strategy) else ("manifest", "null key")
        return f"{kind} {strategy.source}: absent ({what})"
    head = f"manifest {strategy.source}, key {strategy.key!r}"
    if _is_only(strategy):
        head = (
            f"nearest of {strategy.source}, same {names}" if (names := _names(strategy.key)) else f"nearest of {strategy.source}"
        )
    if isinstance(offered, Tie):
        nearer = "" if _is_only(strategy) else " for a nearer one"
        return f"{head}: {tie_words(offered)}, so none is taken; waits{nearer} until {_instant(until)}; {BY_HAND}"
    if isinstance(offered, Candidate):
        return f"{head}: {_far_words(strategy, offered, started_at_ms)}"
    if answer is not None:
        return f"{head}: {'expired' if answer.expired else 'absent'}"
    return f"{head}: no answer yet, waits until {_instant(until)}"


def asks_for(check: KeptUrlCheck) -> str:
    """One line for a URL that is only sent once its host gives a byte of it."""
    head = f"verify {without_secrets(check.location)}"
    if check.due_at is None:
        return f"{head}: it is there"
    if check.since is None:
        why = f", since {check.detail}" if check.detail else ""
        return f"{head}: not asked for yet{why}; a host is asked for a few URLs at a time"
    return f"{head}: {check.detail}; asked for again at {_instant(check.due_at)}"


def looks_for_file(want: Want, until: float, offered: Candidate | Tie | None) -> str:
    """One line for a `file:` strategy."""
    head = f"file {want.key}"
    if isinstance(offered, Tie):
        return f"{head}: {tie_words(offered)}, so none is taken; waits until {_instant(until)}; {BY_HAND}"
    if isinstance(offered, Candidate):
        at_ms = offered.found.started_at_ms or want.started_at_ms
        apart_s, side = math.ceil(abs(at_ms - want.started_at_ms) / 1000), "after" if at_ms > want.started_at_ms else "before"
        what = f"{offered.found.path} was last written {apart_s} s {side} the end of the call"
        return f"{head}: {what}; it is taken at {_instant(offered.at)} unless another file or call fits, too"
    return f"{head}: {want.note or 'there is no such file yet'}; waits until {_instant(until)}"


def tie_words(tie: Tie) -> str:
    """The recordings of a tie, by the manifests that describe them, or by their files."""
    names = [one.path + _started(one) for one in tie.recordings[:_NAMED]]
    if len(tie.recordings) > _NAMED:
        names.append(f"{len(tie.recordings) - _NAMED} more")
    count, others = len(tie.recordings), f"{tie.others} other{'s' if tie.others > 1 else ''}"
    taken = f" ({tie.taken} more belong to other calls)" if tie.taken else ""
    if all(_is_file(one) for one in tie.recordings):
        what = f"{count} files fit{taken} this call" if count > 1 else f"one file fits{taken} this call"
        whose = f" and {others}" if tie.others else ""
    else:
        near = f"{count} recordings are equally near" if count > 1 else "one recording is near"
        what, whose = f"{near}{taken} to this call", f" and to {others}" if tie.others else ""
    return f"{what}{whose}: {', '.join(names)}"


def _started(one: Free) -> str:
    if one.started_at_ms is None:
        return "" if _is_file(one) else " (without a start)"
    return f" ({'last written' if _is_file(one) else 'started'} {_instant(one.started_at_ms / 1000)})"


def _is_file(one: Free) -> bool:
    """Whether tunerd itself found it. (Audio of documents is known by an identity, too, but not by a file.)"""
    return one.identity != "" and (one.location or "").startswith("file:")


def _far_words(strategy: ManifestStrategy, offered: Candidate, started_at_ms: int) -> str:
    """A recording that will be taken later, and the setting that would take it at once."""
    apart_s = math.ceil(abs((offered.found.started_at_ms or 0) - started_at_ms) / 1000)
    side = "after" if (offered.found.started_at_ms or 0) > started_at_ms else "before"
    if strategy.choice is not Choice.NEAREST:
        better = "another recording or call comes near" if _is_only(strategy) else f"a better one comes (pick: {strategy.choice})"
        started = f"the recording of {offered.found.path} started {apart_s} s {side} the call"
        return f"{started}; it is taken at {_instant(offered.at)} unless {better}"
    return (
        f"the recording of {offered.found.path} started {apart_s} s {side} the call, farther away "
        f"than near: {strategy.near_s:g}s; "
        f"it is taken at {_instant(offered.at)} unless a nearer one comes (near: {apart_s}s would take it at once)"
    )


def _is_only(strategy: ManifestStrategy) -> bool:
    return strategy.choice is Choice.ONLY


def _names(key: str) -> str:
    """Of the values that a call and its recording have in common (mapping/match_values.py); never the values."""
    return ", ".join(name for name, _ in json.loads(key[1:]))


def held_by(
    strategies: Sequence[Strategy],
    on_missing: OnMissing,
    answers: Mapping[int, Absence | None],
    *,
    waits_from: float,
    due_at: float,
) -> str | None:
    """One line for `status CALL_ID` on a call that only `on_missing: hold` keeps waiting, until `due_at`; None: a strategy's
    own wait still runs."""
    wanted = wants_of(strategies)
    silent = [strategy for position, strategy in wanted if answers.get(position) is None]
    if not isinstance(on_missing, Hold) or any(waits_from + strategy.wait_s >= due_at for strategy in silent):
        return None
    if silent:
        why, counts = "no strategy has given one in time", "a recording or a newer document"
    else:
        why = "every strategy says that there is none"
        counts = "a newer document, or its manifest written anew with a URL," if wanted else "a newer document"
    return f"{why}; held until {_instant(due_at)} by on_missing: hold ({counts} still counts until then), then it fails"


def _instant(at: float) -> str:
    """As `status` writes it, too."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
