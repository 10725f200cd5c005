"""The arguments of commands that are orders (admin/api.py): one table of options, by the field of the order that each sets."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final, TypeVar

import click

from tunerd.admin.api import Order
from tunerd.call import State
from tunerd.cli.options import PLACE, SINCE
from tunerd.cli.target import target_options
from tunerd.outcome import AudioReason, FailReason

O = TypeVar("O", bound=Order[Any])  # noqa: E741
Option = Callable[[Callable[..., Any]], Callable[..., Any]]


class _States(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """`waiting,due`: states that `remap` takes."""

    name = "states"
    allowed = (State.WAITING, State.DUE, State.FAILED)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[State]:
        if isinstance(value, frozenset):
            return value
        names = [name.strip() for name in value.split(",") if name.strip()]
        if not names or any(name not in self.allowed for name in names):
            self.fail(f"write one or more of {','.join(self.allowed)}", param, ctx)
        return frozenset(State(name) for name in names)


_REASONS: Final = list(dict.fromkeys(one.value for one in (*FailReason, *AudioReason)))

_OPTIONS: Final[Mapping[str, Option]] = {
    "call_id": click.argument("call_id"),
    "call_ids": click.argument("call_ids", nargs=-1, metavar="[CALL_ID]..."),
    "destination": click.argument("destination", required=False),
    "states": click.option("--state", "states", required=True, type=_States(), metavar="STATE[,STATE]...",
                           help="One or more of waiting, due and failed."),
    "reasons": click.option("--reason", "reasons", multiple=True, type=click.Choice(_REASONS),
                            metavar="REASON", help="Only calls that failed for this reason (repeatable)."),
    "sources": click.option("--source", "sources", multiple=True, metavar="NAME", help="Only calls of this source (repeatable)."),
    "since": click.option("--since", type=SINCE, metavar="WHEN",
                          help="Only calls read since this time: 2h, 7d, 2026-11-22."),
    "place": click.option("--place", type=PLACE, metavar="PATH[@OFFSET]",
                          help="Only calls read from this file, or from this place in it (see `tunerd failed`)."),
    "audio": click.option("--audio", is_flag=True, help="Only calls whose audio failed; with CALL_ID, only these."),
    "recording": click.option("--recording", metavar="LOCATION",
                              help="Send the one CALL_ID with the recording at this location: you decide."),
    "everything": click.option("--all", "everything", is_flag=True, help="All failed calls."),
    "dismissed": click.option("--dismissed", is_flag=True, help="List the dismissed calls instead."),
}  # fmt: skip
"""In the order in which `--help` lists them."""


def order_command(
    order: type[O], *names: str, epilog: str, name: str | None = None, text: str | None = None
) -> Callable[[Callable[..., None]], click.Command]:
    """A command that takes `-c`, `--socket` and the named arguments of the order, and gets them as `target` and `order`; its
    other options are passed as they are. Its name and help are the order's, unless `name` and `text` replace them."""

    def decorate(command: Callable[..., None]) -> click.Command:
        @functools.wraps(command)
        def with_order(**given: Any) -> None:
            command(order=_order(order, {one: given.pop(one) for one in names}), **given)

        wrapped: Callable[..., Any] = with_order
        for one in reversed([one for one in _OPTIONS if one in names]):
            wrapped = _OPTIONS[one](wrapped)
        return click.command(name or order.name, help=text or order.__doc__, epilog=epilog)(target_options(wrapped))

    return decorate


def _order(order: type[O], given: dict[str, Any]) -> O:
    if "everything" in given:
        _must_select(given)
    given.pop("everything", None)
    place = given.pop("place", None)
    values = {name: frozenset(value) if isinstance(value, tuple) else value for name, value in given.items()}
    if place is not None:
        values["path"], values["offset"] = place
    if "states" in {one.name for one in fields(order)} and not values.get("call_ids"):
        values.setdefault("states", frozenset({State.FAILED}))
    return order(**values)


def _must_select(given: Mapping[str, Any]) -> None:
    ids: Sequence[str] = given["call_ids"]
    if given.get("recording") is not None and len(ids) != 1:
        raise click.UsageError("--recording goes with exactly one CALL_ID")
    others = [given[name] for name in ("reasons", "sources", "since", "place", "everything")]
    if not ids and not any([*others, given.get("audio")]):
        raise click.UsageError("name the calls: CALL_ID..., --reason, --source, --since, --place or --all")
    if ids and any(others):
        raise click.UsageError("give either CALL_ID... or options that select calls, not both")
