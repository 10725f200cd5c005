"""What both ends of the control socket know: where it is to be found, and how a choice of calls is written down."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tunerd.call import State
from tunerd.ledger import Filter
from tunerd.ops.desk import Choice
from tunerd.ops.office import OrderRefused

_MAX_SUN_PATH: Final = 107
"""Bytes that an address of a Unix socket may have."""
_MAX_NAME: Final = 80
RUN_DIRECTORY: Final = "/run/tunerd"
"""Of the service; other users may not look into it."""
BOUND_AS: Final = ".control-"
"""How the name begins under which a control socket is bound, before it gets its own."""
LISTS: Final = ("states", "reasons", "sources", "call_ids")


class ControlError(Exception):
    """The control socket cannot be opened or does not answer; one line for an operator."""


def socket_places(ledger: str, env: Mapping[str, str], run_directory: str = RUN_DIRECTORY) -> list[Path]:
    """Where the daemon of this ledger may listen, the likeliest first. The daemon takes the first one; the last one is
    where the service's would be, whosever the ledger is."""
    full = Path(os.path.realpath(ledger))
    short = f"control-{hashlib.sha256(os.fsencode(full)).hexdigest()[:12]}.sock"
    beside = full.with_name(full.name + ".sock" if len(os.fsencode(full.name)) + 5 <= _MAX_NAME else short)
    run = [Path(directory) for directory in env.get("RUNTIME_DIRECTORY", "").split(":")[:1] if directory]
    return [*(directory / short for directory in run), beside, Path(run_directory) / short]


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """The path as an address: through a descriptor of its directory where it is too long for one."""
    if len(os.fsencode(path)) <= _MAX_SUN_PATH:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def choice_of(asked: Mapping[str, object]) -> Choice:
    """The choice that a request describes. Raises OrderRefused for anything that is not understood: an order that
    reached further than it was meant to cannot be taken back."""
    if unknown := sorted(set(asked) - {*LISTS, "since", "dismissed", "path", "offset"}):
        raise OrderRefused(f"unknown: {', '.join(unknown)}")
    lists = {name: _texts(asked.get(name, []), name) for name in LISTS}
    try:
        states = frozenset(State(text) for text in lists["states"])
    except ValueError as exc:
        raise OrderRefused(f"states: there is {', '.join(State)}") from exc
    since, path, offset, dismissed = (asked.get(name) for name in ("since", "path", "offset", "dismissed"))
    if since is not None and (isinstance(since, bool) or not isinstance(since, int | float)):
        raise OrderRefused("since must be a number: Unix seconds")
    if path is not None and not isinstance(path, str):
        raise OrderRefused("path must be a text")
    if offset is not None and (isinstance(offset, bool) or not isinstance(offset, int | float)):
        raise OrderRefused("offset must be a whole number")
    if dismissed is not None and not isinstance(dismissed, bool):
        raise OrderRefused("dismissed must be true, false or null")
    where = Filter(
        states=states,
        reasons=frozenset(lists["reasons"]),
        sources=frozenset(lists["sources"]),
        call_ids=frozenset(lists["call_ids"]),
        since=since,
        dismissed=dismissed if "dismissed" in asked else False,
    )
    return Choice(where=where, place=None if path is None else (path, None if offset is None else int(offset)))


def asked_of(choice: Choice) -> dict[str, object]:
    """The request that describes a choice; `choice_of` undoes it."""
    where = choice.where
    asked: dict[str, object] = {
        "states": sorted(state.value for state in where.states),
        "reasons": sorted(where.reasons),
        "sources": sorted(where.sources),
        "call_ids": sorted(where.call_ids),
        "dismissed": where.dismissed,
    }
    if where.since is not None:
        asked["since"] = where.since
    if choice.place is not None:
        asked["path"], offset = choice.place
        if offset is not None:
            asked["offset"] = offset
    return asked


def _texts(value: object, name: str) -> Sequence[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise OrderRefused(f"{name} must be a list of texts")
    return value
